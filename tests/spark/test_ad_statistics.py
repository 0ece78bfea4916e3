from datetime import timedelta

import pytest

from llmrec_spark.ad_statistics import ad_statistics, in_window
from llmrec_spark.tables import AD_STATISTICS
from tests.conftest import session_time_zone
from tests.spark.rows import DAY, MIDNIGHT, NOON, ads_of, event, events_of

SHOWN = "event_id string, user_id string, ad_id string, clicked boolean"


def impressions_of(spark, *counts):
    """(ad_id, shown, clicked): as many impressions of users u0, u1, ..., the first of them clicked."""
    rows = [(f"{ad_id}{n}", f"u{n}", ad_id, n < clicked) for ad_id, shown, clicked in counts for n in range(shown)]
    return spark.createDataFrame(rows, SHOWN)


def statistics(spark, impressions, *events, ads="abc", prior_shown=10.0, acts=("view", "click")):
    found = ad_statistics(
        ads_of(spark, *[{"ad_id": ad_id} for ad_id in ads]),
        events_of(spark, *events),
        impressions,
        conversions=["purchase"],
        acts=acts,
        prior_shown=prior_shown,
    )
    assert dict(found.dtypes) == {c.name: c.kind for c in AD_STATISTICS.columns if c.name != "run_id"}
    return {row.ad_id: row for row in found.collect()}


def test_the_rate_is_clicks_per_shown_shrunk_to_the_overall_mean(spark):
    found = statistics(spark, impressions_of(spark, ("a", 30, 6), ("b", 10, 2)))
    assert {ad_id: (row.shown, row.clicks) for ad_id, row in found.items()} == {"a": (30, 6), "b": (10, 2), "c": (0, 0)}
    m = 8 / 40
    assert found["a"].rate == pytest.approx((6 + 10 * m) / 40)
    assert found["b"].rate == pytest.approx((2 + 10 * m) / 20)
    assert found["c"].rate == pytest.approx(m)  # a new ad


def test_a_larger_prior_believes_the_mean_more(spark):
    found = statistics(spark, impressions_of(spark, ("a", 3, 3), ("b", 9, 0)), prior_shown=90.0)
    assert found["a"].rate == pytest.approx((3 + 90 * 0.25) / 93)


@pytest.mark.parametrize(("clicked", "m"), [(0, 1e-4), (1, 0.25), (4, 0.5)])
def test_the_overall_mean_is_held_within_its_bounds(spark, clicked, m):
    assert statistics(spark, impressions_of(spark, ("a", 4, clicked)))["b"].rate == pytest.approx(m)


def test_impressions_of_ads_that_are_no_more_do_not_count(spark):
    found = statistics(spark, impressions_of(spark, ("a", 4, 1), ("gone", 96, 0)))
    assert set(found) == set("abc")
    assert found["b"].rate == pytest.approx(0.25)


def test_empty_logs_give_the_lowest_rate_to_every_ad(spark):
    for impressions in (impressions_of(spark), None):
        found = statistics(spark, impressions, ads="a")["a"]
        assert (found.shown, found.clicks, found.conversions, found.users, found.mean_value) == (0, 0, 0, 0, None)
        assert found.rate == pytest.approx(1e-4)


def test_no_ads_have_no_statistics(spark):
    assert statistics(spark, impressions_of(spark, ("a", 4, 1)), ads="") == {}


def test_without_impressions_active_users_are_shown_and_users_who_acted_are_clicks(spark):
    found = statistics(
        spark,
        None,
        event("e1", user_id="u"),
        event("e2", user_id="u"),  # a second click of one user
        event("e3", "view", user_id="v"),
        event("e4", "search", user_id="w", ad_id=None),
        event("e5", "hide", user_id="x", ad_id="b"),
    )
    assert {ad_id: (row.shown, row.clicks) for ad_id, row in found.items()} == {"a": (4, 2), "b": (4, 0), "c": (4, 0)}
    assert found["a"].rate == pytest.approx((2 + 10 * 2 / 12) / 14)


def test_users_are_those_who_were_shown_the_ad_or_acted_on_it(spark):
    acts = [event("e1", user_id="u0"), event("e2", user_id="new"), event("e3", "hide", user_id="hides")]
    assert statistics(spark, impressions_of(spark, ("a", 2, 1)), *acts)["a"].users == 3


def test_the_mean_value_of_a_conversion_is_shrunk_to_the_overall_one(spark):
    found = statistics(
        spark,
        impressions_of(spark),
        event("e1", "purchase", value=30.0),
        event("e2", "purchase", value=10.0),
        event("e3", "purchase", value=None),
        event("e4", "purchase", value=2.0, ad_id="b"),
        event("e5", "click", value=999.0),
    )
    v = 42 / 3
    assert {ad_id: row.conversions for ad_id, row in found.items()} == {"a": 3, "b": 1, "c": 0}
    assert found["a"].mean_value == pytest.approx((40 + 10 * v) / 12)
    assert found["b"].mean_value == pytest.approx((2 + 10 * v) / 11)
    assert found["c"].mean_value == pytest.approx(v)


def test_where_no_conversion_has_a_value_the_mean_value_is_unknown(spark):
    assert statistics(spark, impressions_of(spark), event("e", "purchase"))["a"].mean_value is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai"])
def test_the_window_is_the_days_before_from_midnight_utc_on(spark, zone):
    border = MIDNIGHT - timedelta(days=28)
    rows = [event("first", event_ts=border), event("before", event_ts=border - timedelta(seconds=1)), event("last")]
    with session_time_zone(spark, zone):
        kept = in_window(events_of(spark, *rows), as_of=DAY, window_days=28).collect()
    assert {row.event_id for row in kept} == {"first", "last"}


def test_without_a_window_every_event_counts(spark):
    events = events_of(spark, event("old", event_ts=NOON - timedelta(days=9_000)))
    assert in_window(events, as_of=DAY, window_days=None).count() == 1
