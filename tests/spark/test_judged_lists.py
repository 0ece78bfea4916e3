from datetime import timedelta

import pytest

from llmrec_spark.judged_lists import BASELINES, SCORERS, judged_ads, listed_order, met_before, user_slices
from tests.spark.rows import DAY, MIDNIGHT, event, events_of

OUTCOMES = "user_id string, ad_id string, clicked boolean, of_run boolean"
LISTED = "user_id string, ad_id string, score double, match double, source string"
STATISTICS = "ad_id string, rate double, clicks bigint"


def judge(spark, shown, listed=(), statistics=(), behaviours=(), partitions=1):
    """(user_id, ad_id) -> the judged row."""
    found = judged_ads(
        spark.createDataFrame(shown, OUTCOMES).repartition(partitions),
        spark.createDataFrame(list(listed), LISTED),
        spark.createDataFrame(list(statistics), STATISTICS),
        events_of(spark, *behaviours),
    ).collect()
    assert len(found) == len({(row.user_id, row.ad_id) for row in found})
    return {(row.user_id, row.ad_id): row for row in found}


@pytest.mark.parametrize("partitions", [1, 4])
def test_an_ad_shown_several_times_counts_once_and_is_clicked_if_any_was(spark, partitions):
    shown = [("u", "a", False, True), ("u", "a", True, True), ("u", "b", False, True), ("u", "b", False, True)]
    found = judge(spark, shown, partitions=partitions)
    assert {key: row.clicked for key, row in found.items()} == {("u", "a"): True, ("u", "b"): False}


def test_scorers_are_those_of_the_run_and_of_what_was_known_before(spark):
    acted = [
        event("e1", ad_id="a"),
        event("e2", ad_id="a"),
        event("e3", ad_id="b", user_id="v"),
        event("s", "search", ad_id=None),
    ]
    found = judge(spark, [("u", "a", True, True)], [("u", "a", 2.0, 0.5, "personal")], [("a", 0.1, 7)], acted)
    row = found["u", "a"]
    assert [row[name] for name in SCORERS] == [2.0, 0.5, 0.1, 7.0, 2.0, 0.0]
    assert (row.source, row.is_scored) == ("personal", True)


def test_an_ad_the_run_does_not_know_has_no_score_and_the_baselines_all_the_same(spark):
    row = judge(spark, [("u", "a", True, True)], [("v", "a", 2.0, 0.5, "personal")])["u", "a"]
    assert (row.score, row.match, row.source, row.is_scored) == (None, None, None, False)
    assert [row[name] for name in BASELINES] == [None, 0.0, 0.0, 0.0]


def test_an_impression_of_another_run_is_not_that_of_the_run_judged(spark):
    shown, listed = (
        [("u", "a", True, False), ("u", "b", True, True)],
        [("u", "a", 2.0, 0.5, "x"), ("u", "b", 1.0, 0.5, "x")],
    )
    assert {key[1]: row.is_scored for key, row in judge(spark, shown, listed).items()} == {"a": False, "b": True}


def test_a_list_is_judged_in_the_order_of_its_ranks(spark):
    rows = spark.createDataFrame(
        [("u", "a", 2, 0.1, "x"), ("u", "b", 1, 0.2, "x")],
        "user_id string, ad_id string, rank int, match double, source string",
    )
    assert {row.ad_id: row.score for row in listed_order(rows).collect()} == {"a": -2.0, "b": -1.0}


def slices(spark, users, met=(), columns=()):
    schema = "user_id string, segment string, age int"
    rows = [(*user, None, None)[:3] for user in users]
    known = spark.createDataFrame([(one,) for one in met], "user_id string")
    found = user_slices(spark.createDataFrame(rows, schema), known, columns=columns).collect()
    return {row.user_id: row.slices for row in found}


def test_every_user_is_in_all_and_known_or_new(spark):
    assert slices(spark, [("u",), ("v",)], met=["v", "w"]) == {"u": ["all", "user=new"], "v": ["all", "user=known"]}


def test_columns_of_users_are_slices_and_null_is_none(spark):
    found = slices(spark, [("u", "young", 20), ("v",)], columns=["segment", "age"])
    assert found == {"u": ["all", "user=new", "segment=young", "age=20"], "v": ["all", "user=new"]}


def test_who_was_met_before_the_day_is_known(spark):
    rows = [event("e1", event_ts=MIDNIGHT - timedelta(seconds=1)), event("e2", user_id="v", event_ts=MIDNIGHT)]
    assert [row.user_id for row in met_before(events_of(spark, *rows, rows[0]), DAY).collect()] == ["u"]
