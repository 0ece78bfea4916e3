from datetime import timedelta

import pytest

from llmrec_spark.exclusions import converted, exclusions, hidden, resting
from tests.conftest import session_time_zone
from tests.spark.rows import DAY, MIDNIGHT, NOON, event, events_of

SHOWN = "event_id string, user_id string, ad_id string, event_ts timestamp, clicked boolean"


def pairs(found):
    rows = found.collect()
    assert len({(row.user_id, row.ad_id) for row in rows}) == len(rows)
    return {(row.user_id, row.ad_id): row.reason for row in rows}


def test_what_a_user_hid_is_hidden_from_that_user_for_ever(spark):
    events = events_of(
        spark,
        event("e1", "hide", NOON - timedelta(days=5_000)),
        event("e2", "report", ad_id="b"),
        event("e3", "report", ad_id=None),
        event("e4", "click", ad_id="c"),
        event("e5", "click", user_id="v"),
    )
    found = pairs(exclusions(hidden(events, negative=["hide", "report"])))
    assert found == {("u", "a"): "hidden", ("u", "b"): "hidden"}


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
def test_what_a_user_converted_on_is_left_out_for_as_many_days(spark, zone):
    border = MIDNIGHT - timedelta(days=30)
    events = events_of(
        spark,
        event("e1", "purchase", border),
        event("e2", "purchase", border - timedelta(seconds=1), ad_id="b"),
        event("e3", "cart", ad_id="c"),
        event("e4", "purchase", ad_id=None),
    )
    with session_time_zone(spark, zone):
        assert pairs(converted(events, as_of=DAY, conversions=["purchase"], days=30)) == {("u", "a"): "converted"}


def impressions_of(spark, *times, clicked=(), partitions=1):
    """Impressions of ad a by user u, so many hours before the day; those in `clicked` were clicked."""
    rows = [(f"i{n:02d}", "u", "a", MIDNIGHT - timedelta(hours=h), h in clicked) for n, h in enumerate(times)]
    return spark.createDataFrame(rows, SHOWN).repartition(partitions)


def rests(impressions, shown=3, days=7):
    found = pairs(exclusions(resting(impressions, as_of=DAY, shown=shown, days=days)))
    assert set(found.values()) <= {"resting"}
    return ("u", "a") in found


@pytest.mark.parametrize("partitions", [1, 5])
@pytest.mark.parametrize(("times", "expected"), [([5, 4, 3], True), ([5, 4], False), ([5, 4, 3, 2], True)])
def test_an_ad_shown_often_without_a_click_rests(spark, times, expected, partitions):
    assert rests(impressions_of(spark, *times, partitions=partitions)) == expected


@pytest.mark.parametrize(("clicked", "expected"), [(4, False), (7, True)])
def test_a_click_starts_the_count_again(spark, clicked, expected):
    assert rests(impressions_of(spark, 7, 6, 5, 4, 3, 2, clicked={clicked})) == expected


def test_impressions_before_the_clicked_one_at_the_same_instant_are_told_by_event_id(spark):
    rows = [(f"i{n}", "u", "a", NOON, n == 1) for n in range(4)]  # i2 and i3 follow the clicked i1
    impressions = spark.createDataFrame(rows, SHOWN)
    assert rests(impressions, shown=2)
    assert not rests(impressions, shown=3)


@pytest.mark.parametrize(("last", "expected"), [(7 * 24, True), (7 * 24 + 0.01, False)])
def test_after_its_days_of_rest_an_ad_is_free_again(spark, last, expected):
    assert rests(impressions_of(spark, last + 2, last + 1, last)) == expected


def test_an_ad_that_rested_and_is_shown_again_rests_after_as_many_impressions(spark):
    old = [402, 401, 400]  # rested, and free again
    assert not rests(impressions_of(spark, *old, 3, 2))
    assert rests(impressions_of(spark, *old, 3, 2, 1))


def test_users_and_ads_rest_apart(spark):
    rows = [(f"i{n}", user, ad, NOON, False) for n, (user, ad) in enumerate([("u", "a"), ("u", "b"), ("v", "a")] * 2)]
    found = pairs(
        resting(spark.createDataFrame([*rows, ("i9", "u", "a", NOON, False)], SHOWN), as_of=DAY, shown=3, days=7)
    )
    assert found == {("u", "a"): "resting"}


def test_a_pair_has_one_row_and_the_first_reason(spark):
    events = events_of(
        spark,
        *[event(f"h{n}", "hide") for n in range(3)],
        event("p1", "purchase"),
        event("p2", "purchase", ad_id="b"),
        event("p3", "purchase", ad_id="b"),
    )
    bought = converted(events, as_of=DAY, conversions=["purchase"], days=30)
    found = exclusions(hidden(events, negative=["hide"]), bought)
    assert pairs(found) == {("u", "a"): "hidden", ("u", "b"): "converted"}


def test_empty_logs_exclude_nothing(spark):
    none = events_of(spark)
    found = exclusions(
        hidden(none, negative=["hide"]),
        converted(none, as_of=DAY, conversions=["purchase"], days=30),
        resting(impressions_of(spark), as_of=DAY, shown=3, days=7),
    )
    assert pairs(found) == {}
