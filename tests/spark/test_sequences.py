import math
import random
from datetime import timedelta

import pytest

from llmrec_spark.sequences import behaviour_sequences, behaviours, histories, queries, recent_queries, shown_before
from llmrec_spark.tables import SEQUENCES
from llmrec_spark.texts import text_hash
from tests.conftest import utc
from tests.spark.rows import DAY, MIDNIGHT, NOON, SEARCHES, ads_of, event, events_of, rows_of

WEIGHTS = {"impression": 0.0, "view": 0.3, "click": 1.0, "cart": 2.0, "search": 1.0, "hide": -1.0}
SHOWN = "event_id string, user_id string, ad_id string, event_ts timestamp, position int, clicked boolean"


def skip(event_id, minutes=0, ad_id="a", clicked=False, user_id="u"):
    return (event_id, user_id, ad_id, NOON + timedelta(minutes=minutes), 1, clicked)


def known_behaviours(spark, *rows, ads="abcdefgh", partitions=1):
    events = events_of(spark, *rows).repartition(partitions)
    asked = queries(events, searches=SEARCHES)
    known = ads_of(spark, *[{"ad_id": ad_id} for ad_id in ads])
    return behaviours(events, known, asked, weights=WEIGHTS, searches=SEARCHES)


def sequences(spark, *rows, skips=(), max_behaviours=10, max_skips=10, ads="abcdefgh", partitions=1):
    behaved = known_behaviours(spark, *rows, ads=ads, partitions=partitions)
    shown = spark.createDataFrame(list(skips), SHOWN).repartition(partitions)
    return behaviour_sequences(behaved, shown, max_behaviours=max_behaviours, max_skips=max_skips)


@pytest.mark.parametrize("partitions", [1, 5])
def test_events_at_the_same_instant_are_ordered_by_event_id(spark, partitions):
    rows = [event(f"e{n}", ad_id=ad_id) for n, ad_id in enumerate("cabfed")]
    shuffled = random.Random(partitions).sample(rows, len(rows))
    [row] = sequences(spark, *shuffled, partitions=partitions).collect()
    assert row.ad_ids == list("cabfed")


@pytest.mark.parametrize("partitions", [1, 5])
def test_the_last_behaviours_are_kept_oldest_first(spark, partitions):
    rows = [event(f"e{n}", event_ts=NOON - timedelta(hours=n), ad_id="abcdefgh"[n], position=n) for n in range(8)]
    [row] = sequences(spark, *rows, max_behaviours=3, partitions=partitions).collect()
    assert row.ad_ids == ["c", "b", "a"]
    assert [utc(ts) for ts in row.event_ts] == [NOON - timedelta(hours=hours) for hours in (2, 1, 0)]
    assert row.positions == [2, 1, 0]


def test_a_table_of_sequences_has_the_columns_of_the_contract(spark):
    found = sequences(spark, event("e", value=2.5))
    assert dict(found.dtypes) == {c.name: c.kind for c in SEQUENCES.columns if c.name != "run_id"}


def test_types_of_no_or_negative_weight_and_unknown_types_are_no_behaviours(spark):
    kinds = ["impression", "hide", "unheard of", "view", "cart"]
    rows = [event(kind, kind, NOON + timedelta(minutes=n)) for n, kind in enumerate(kinds)]
    [row] = sequences(spark, *rows).collect()
    assert row.event_types == ["view", "cart"]


def test_behaviours_without_a_known_ad_are_marked_and_left_out(spark):
    rows = [event("e1", ad_id="a"), event("e2", ad_id="gone", user_id="v"), event("e3", "search", ad_id=None)]
    marked = known_behaviours(spark, *rows, ads="a").collect()
    assert {row.event_id: row.is_known for row in marked} == {"e1": True, "e2": False, "e3": False}
    assert [row.user_id for row in sequences(spark, *rows, ads="a").collect()] == ["u"]


def test_unknown_ads_do_not_take_the_place_of_known_ones(spark):
    rows = [event("e1", ad_id="a"), *[event(f"x{n}", event_ts=NOON + timedelta(hours=n), ad_id="gone") for n in (1, 2)]]
    [row] = sequences(spark, *rows, max_behaviours=1).collect()
    assert row.ad_ids == ["a"]


def test_a_search_carries_the_hash_of_its_query_and_no_ad(spark):
    [row] = sequences(spark, event("e", "search", query="  Trail  shoes ", ad_id="a")).collect()
    assert (row.ad_ids, row.query_hashes) == ([None], [text_hash("Trail shoes")])


def test_a_click_that_has_a_query_keeps_its_ad_and_carries_no_hash(spark):
    rows = [event("e1", query="shoes"), event("e2", "search", NOON + timedelta(hours=1), query="shoes", ad_id=None)]
    [row] = sequences(spark, *rows).collect()
    assert (row.ad_ids, row.query_hashes) == (["a", None], [None, text_hash("shoes")])


def test_skips_are_the_last_unclicked_impressions_oldest_first(spark):
    skips = [skip("i1", 1, "a"), skip("i4", 3, "d"), skip("i2", 2, "b", clicked=True), skip("i3", 3, "c")]
    [row] = sequences(spark, event("e"), skips=skips, max_skips=2).collect()
    assert row.skipped_ad_ids == ["c", "d"]
    assert row.skipped_positions == [1, 1]
    assert [utc(ts) for ts in row.skipped_ts] == [NOON + timedelta(minutes=3)] * 2


def test_a_user_of_one_kind_has_empty_arrays_of_the_other(spark):
    rows = sequences(spark, event("e", user_id="behaves"), skips=[skip("i", user_id="skips")]).collect()
    found = {row.user_id: (row.ad_ids, row.event_types, row.skipped_ad_ids) for row in rows}
    assert found == {"behaves": (["a"], ["click"], []), "skips": ([], [], ["a"])}


def test_no_skips_are_kept_where_none_are_wanted(spark):
    [row] = sequences(spark, event("e"), skips=[skip("i")], max_skips=0).collect()
    assert row.skipped_ad_ids == []


def test_an_empty_log_has_no_sequences(spark):
    assert sequences(spark).count() == 0


def test_queries_are_normalised_hashed_and_split_once_each(spark):
    rows = [event(f"e{n}", "search", query=query) for n, query in enumerate(["Red  shoes", "Red  shoes", " ", None])]
    [row] = queries(events_of(spark, *rows, event("c", query="of a click")), searches=SEARCHES).collect()
    assert row.asDict() == {
        "query": "Red  shoes",
        "text": "Red shoes",
        "query_hash": text_hash("Red shoes"),
        "keywords": ["red", "shoes"],
    }


def of_history(spark, *rows, half_life_days):
    found = histories(
        rows_of(spark, SEQUENCES, *rows, leave_out=("run_id",)),
        as_of=DAY,
        weights=WEIGHTS,
        half_life_days=half_life_days,
    )
    return found.collect()


def history(kinds, days_ago, user_id="u"):
    happened = [MIDNIGHT - timedelta(days=days) for days in days_ago]
    nothing = [None] * len(kinds)
    return {
        "user_id": user_id,
        "ad_ids": ["a"] * len(kinds),
        "query_hashes": nothing,
        "event_types": kinds,
        "event_ts": happened,
    }


def test_a_prior_is_the_weight_of_the_type_halved_every_half_life(spark):
    [row] = of_history(spark, history(["view", "cart", "click"], [60, 30, 0]), half_life_days=30.0)
    assert [math.exp(prior) for prior in row.log_priors] == pytest.approx([0.3 / 4, 2.0 / 2, 1.0])


def test_without_a_half_life_a_prior_is_the_weight(spark):
    [row] = of_history(spark, history(["view", "cart"], [6_000, 0]), half_life_days=None)
    assert row.log_priors == [math.log(0.3), math.log(2.0)]


def test_the_priors_of_decades_ago_are_finite(spark):
    [row] = of_history(spark, history(["click"], [9_000]), half_life_days=1.0)
    assert row.log_priors == pytest.approx([-9_000 * math.log(2.0)])


def test_where_no_type_is_a_behaviour_there_is_no_history(spark):
    found = histories(sequences(spark, skips=[skip("i1")]), as_of=DAY, weights={"impression": 0.0}, half_life_days=30.0)
    assert found.collect() == []


def test_users_without_a_behaviour_have_no_history(spark):
    assert of_history(spark, history([], []), half_life_days=30.0) == []


@pytest.mark.parametrize("partitions", [1, 5])
def test_recent_queries_are_the_latest_distinct_ones_and_tied_ones_by_hash(spark, partitions):
    def searches(user, *pairs):
        return {
            "user_id": user,
            "query_hashes": [query for query, _ in pairs],
            "event_ts": [NOON + timedelta(hours=hours) for _, hours in pairs],
        }

    rows = [
        searches("u", ("old", 0), ("q2", 5), (None, 9)),
        searches("v", ("old", 1), ("q1", 5), ("q3", 5), ("older", 0)),
        searches("w", ("new", 6), ("q2", 2)),
    ]
    table = rows_of(spark, SEQUENCES, *rows, leave_out=("run_id",)).repartition(partitions)
    for limit, expected in [(3, {"new", "q1", "q2"}), (0, set()), (99, {"new", "q1", "q2", "q3", "old", "older"})]:
        assert {row.query_hash for row in recent_queries(table, max_queries=limit).collect()} == expected


def test_what_was_shown_before_is_what_was_clicked_and_what_was_skipped(spark):
    rows = [
        event("e1", "click", NOON, ad_id="a", position=2),
        event("e2", "cart", NOON + timedelta(minutes=1), ad_id="a"),
        event("e3", "search", NOON + timedelta(minutes=2), ad_id=None, query="shoes"),
        event("e4", "click", NOON + timedelta(minutes=3), ad_id="b", position=None),
        event("e5", "view", NOON, ad_id="a", user_id="viewer"),
    ]
    skips = [skip("s1", ad_id="c"), skip("s2", minutes=1, ad_id="a"), skip("s3", ad_id="d", user_id="skipper")]
    found = {row.user_id: row for row in shown_before(sequences(spark, *rows, skips=skips), clicks=["click"]).collect()}
    assert set(found) == {"u", "skipper"}
    assert found["u"].shown_ads == ["a", "b", "c", "a"]
    assert found["u"].shown_types == ["click", "click", "skip", "skip"]
    assert found["u"].positions == [2, None, 1, 1]
    minutes = [(one.replace(tzinfo=None) - found["u"].shown_ts[0]).total_seconds() / 60 for one in found["u"].shown_ts]
    assert minutes[:2] == [0, 3]
    assert minutes[3] - minutes[2] == 1
    assert (found["skipper"].shown_ads, found["skipper"].shown_types) == (["d"], ["skip"])
