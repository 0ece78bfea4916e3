import math
from datetime import timedelta

import pytest

from llmrec_spark.evaluations import SCORERS, judged_lists, list_metrics, mean_metrics
from tests.conftest import session_time_zone
from tests.spark.rows import DAY, MIDNIGHT

SHOWN = "user_id string, request_id string, ad_id string, event_ts timestamp, clicked boolean"
MATCHED = "user_id string, ad_id string, match double, rate double, score double"
JUDGED = "user_id string, request_id string, clicked boolean, match double, rate double, score double"
MORNING = MIDNIGHT + timedelta(hours=9)


def judge(spark, shown, matches=(), met=("u",), partitions=1):
    return judged_lists(
        spark.createDataFrame(shown, SHOWN).repartition(partitions),
        spark.createDataFrame(list(matches), MATCHED),
        spark.createDataFrame([(user,) for user in met], "user_id string"),
        on=DAY,
    )


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_the_ads_shown_on_the_day_are_judged(spark, zone):
    times = {
        "before": MIDNIGHT - timedelta(seconds=1),
        "first": MIDNIGHT,
        "last": MIDNIGHT + timedelta(hours=23, minutes=59),
        "after": MIDNIGHT + timedelta(days=1),
    }
    with session_time_zone(spark, zone):
        rows = judge(spark, [("u", name, "a", ts, True) for name, ts in times.items()]).collect()
    assert {row.request_id for row in rows} == {"first", "last"}


def test_an_ad_shown_twice_in_a_list_is_judged_once_and_clicked_if_either_was(spark):
    shown = [("u", "r", "a", MORNING, False), ("u", "r", "a", MORNING, True), ("u", "r", "b", MORNING, False)]
    assert sorted(row.clicked for row in judge(spark, shown).collect()) == [False, True]


def test_an_ad_without_a_match_has_no_scores(spark):
    shown = [("u", "r", "a", MORNING, True), ("u", "r", "b", MORNING, False)]
    found = judge(spark, shown, [("u", "a", 0.5, 0.1, -2.0), ("v", "b", 0.9, 0.1, 1.0)]).collect()
    assert {row.clicked: (row.match, row.rate, row.score) for row in found} == {
        True: (0.5, 0.1, -2.0),
        False: (None, None, None),
    }


def test_lists_tell_whether_the_user_was_met_before(spark):
    shown = [("u", "r1", "a", MORNING, True), ("new", "r2", "a", MORNING, True)]
    found = judge(spark, shown, met=["u", "u", "other"]).collect()
    assert {row.user_id: row.has_history for row in found} == {"u": True, "new": False}


def metrics(spark, *rows, k=10, partitions=1):
    """(request_id, scorer) -> ndcg, auc, unscored; rows are request_id, clicked, match, rate, score of user u."""
    judged = spark.createDataFrame([("u", *row) for row in rows], JUDGED).repartition(partitions)
    found = list_metrics(judged, k=k).collect()
    return {(row.request_id, row.scorer): (row.ndcg, row.auc, row.unscored) for row in found}


@pytest.mark.parametrize("partitions", [1, 5])
def test_each_scorer_orders_the_list_by_its_own_column(spark, partitions):
    rows = [("r", True, 0.1, 0.9, 0.5), ("r", False, 0.2, 0.8, 0.6), ("r", False, 0.3, 0.7, 0.4)]
    found = metrics(spark, *rows, partitions=partitions)
    second, third = 1 / math.log2(3), 1 / math.log2(4)
    assert found["r", "rate"] == (1.0, 1.0, 0)
    assert found["r", "score"] == pytest.approx((second, 0.5, 0))
    assert found["r", "match"] == pytest.approx((third, 0.0, 0))
    assert found["r", "random"] == pytest.approx(((1 + second + third) / 3, 0.5, 0))


def test_ads_without_a_score_rank_last_and_are_counted(spark):
    rows = [("r", False, -0.9, 0.1, -9.0), ("r", True, None, None, None)]
    assert metrics(spark, *rows)["r", "score"] == pytest.approx((1 / math.log2(3), 0.0, 1))


def test_lists_with_clicks_only_or_without_any_are_left_out(spark):
    rows = [("all", True, 0.1, 0.1, 0.1), ("none", False, 0.1, 0.1, 0.1), ("none", False, 0.1, 0.1, 0.1)]
    assert metrics(spark, *rows) == {}


def test_lists_without_a_request_id_are_one_list_of_the_user(spark):
    found = metrics(spark, (None, True, 0.1, 0.1, 0.1), (None, False, 0.1, 0.1, 0.1))
    assert set(found) == {(None, scorer) for scorer in SCORERS}


def test_means_are_over_lists_and_unscored_ads_are_summed(spark):
    rows = [("r1", "score", 1.0, 0.5, 2), ("r2", "score", 0.5, 1.0, 1), ("r1", "rate", 0.25, 0.0, 0)]
    table = spark.createDataFrame(rows, "request_id string, scorer string, ndcg double, auc double, unscored int")
    found = {row.scorer: (row.lists, row.ndcg, row.auc, row.unscored) for row in mean_metrics(table).collect()}
    assert found == {"score": (2, 0.75, 0.75, 3), "rate": (1, 0.25, 0.0, 0)}


def test_a_day_without_lists_has_no_metrics(spark):
    assert mean_metrics(list_metrics(judge(spark, []), k=10)).count() == 0
