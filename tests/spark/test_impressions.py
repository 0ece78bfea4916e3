import random
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from pyspark.sql import functions as F

from llmrec_spark.impressions import clicked_impressions, impressions_over_time, was_clicked
from tests.conftest import session_time_zone, utc
from tests.spark.rows import NOON, event, events_of

HOUR = timedelta(hours=1)


def shown(event_id, hours=0.0, **more):
    return event(event_id, "impression", NOON + hours * HOUR, **more)


def click(event_id, hours=0.0, **more):
    return event(event_id, "click", NOON + hours * HOUR, **more)


def credited(events):
    """The clicked impressions: event_id -> hours from noon to the first click credited."""
    found = clicked_impressions(events, impressions=["impression"], clicks=["click"]).collect()
    assert all(row.clicked == (row.clicked_ts is not None) for row in found)
    return {row.event_id: (utc(row.clicked_ts) - NOON) / HOUR for row in found if row.clicked}


def test_a_click_credits_the_impression_of_its_request(spark):
    assert credited(
        events_of(spark, shown("i1", request_id="r1"), shown("i2", 1, request_id="r2"), click("c", 2, request_id="r1"))
    ) == {"i1": 2}


def test_a_click_of_an_unknown_request_credits_the_latest_impression(spark):
    assert credited(
        events_of(spark, shown("i1", request_id="r1"), shown("i2", 1, request_id="r2"), click("c", 2, request_id="r9"))
    ) == {"i2": 2}


def test_a_click_without_a_request_credits_the_latest_impression_of_its_user_and_ad(spark):
    assert credited(
        events_of(
            spark,
            shown("i1", request_id="r1"),
            shown("i2", 1),
            shown("other ad", 1.5, ad_id="b"),
            shown("other user", 1.5, user_id="v"),
            shown("after", 3),
            click("c", 2),
        )
    ) == {"i2": 2}


def test_an_hour_is_an_hour_where_the_clocks_of_the_session_change(spark):
    spring = datetime(2026, 3, 7, 12, tzinfo=UTC)  # New York's clocks skip an hour at 07:00 UTC the next day
    events = events_of(spark, event("i", "impression", spring), event("c", "click", spring + 23.5 * HOUR))
    with session_time_zone(spark, "America/New_York"):
        found = clicked_impressions(events, impressions=["impression"], clicks=["click"]).collect()
    assert [row.clicked for row in found] == [True]


@pytest.mark.parametrize(("hours", "credits"), [(24, {"i": 24}), (24.001, {})])
def test_an_impression_is_credited_for_24_hours(spark, hours, credits):
    assert credited(events_of(spark, shown("i"), click("c", hours))) == pytest.approx(credits)


def test_the_request_is_credited_however_long_ago_it_was(spark):
    assert credited(events_of(spark, shown("i", request_id="r"), click("c", 100, request_id="r"))) == {"i": 100}


def test_an_ad_shown_twice_in_a_request_is_credited_once_and_the_earlier_time(spark):
    assert credited(
        events_of(spark, shown("i2", 1, request_id="r"), shown("i1", request_id="r"), click("c", 2, request_id="r"))
    ) == {"i1": 2}


def test_a_click_before_its_impression_credits_nothing(spark):
    assert credited(events_of(spark, shown("i", 1), click("c", 0.5))) == {}


def test_a_click_at_the_instant_of_its_impression_credits_it(spark):
    assert credited(events_of(spark, click("a click whose id comes first"), shown("i"))) == {"i": 0}


def test_impressions_at_one_instant_are_ordered_by_event_id(spark):
    assert credited(events_of(spark, shown("i2"), shown("i1"), shown("i3"), click("c", 1))) == {"i3": 1}


def test_the_first_of_several_clicks_is_kept(spark):
    assert credited(events_of(spark, shown("i"), click("c2", 2), click("c1", 1))) == {"i": 1}


def test_every_impression_has_one_row_however_many_clicks(spark):
    events = events_of(spark, shown("i1"), shown("i2", 1), *[click(f"c{n}", 2, request_id=None) for n in range(5)])
    assert clicked_impressions(events, impressions=["impression"], clicks=["click"]).count() == 2


def test_clicks_without_impressions_and_no_events_give_no_rows(spark):
    assert credited(events_of(spark, click("c"))) == {}
    assert clicked_impressions(events_of(spark), impressions=["impression"], clicks=["click"]).count() == 0


def twin(rows):
    """event_id -> hours of the first click credited, click by click over a list."""
    order = lambda row: (row["event_ts"], row["event_id"])  # noqa: E731
    impressions = sorted((row for row in rows if row["event_type"] == "impression"), key=order)
    first_click = {}
    for one in sorted((row for row in rows if row["event_type"] == "click"), key=order):
        own = [i for i in impressions if (i["user_id"], i["ad_id"]) == (one["user_id"], one["ad_id"])]
        same_request = [i for i in own if one["request_id"] is not None and i["request_id"] == one["request_id"]]
        before = [i for i in own if timedelta(0) <= one["event_ts"] - i["event_ts"]]
        if same_request:
            first_click.setdefault(same_request[0]["event_id"], one["event_ts"])
        elif before and one["event_ts"] - before[-1]["event_ts"] <= 24 * HOUR:
            first_click.setdefault(before[-1]["event_id"], one["event_ts"])
    return {event_id: (ts - NOON) / HOUR for event_id, ts in first_click.items()}


def random_log(seed):
    draw = random.Random(seed).choice
    return [
        event(f"e{n:03d}", draw(["impression", "impression", "click"]), NOON + draw(range(0, 120, 4)) * HOUR)
        | {"user_id": draw("uvw"), "ad_id": draw("ab"), "request_id": draw([None, None, "r1", "r2", "r3", "r4"])}
        for n in range(300)
    ]


@pytest.mark.parametrize(("seed", "partitions"), [(1, 1), (2, 5), (3, 5)])
def test_credits_are_those_of_a_plain_loop_on_random_logs(spark, seed, partitions):
    rows = random_log(seed)
    expected = twin(rows)
    assert len(expected) > 30
    assert credited(events_of(spark, *rows).repartition(partitions)) == expected


def clicked_by(events, *hours):
    """Per number of hours from noon the impressions in the log by then that had been clicked."""
    times = {hour: F.lit(NOON + hour * HOUR) for hour in hours}
    found = impressions_over_time(events, impressions=["impression"], clicks=["click"]).select(
        "event_id", *[(was_clicked(time) & (F.col("event_ts") < time)).alias(str(hour)) for hour, time in times.items()]
    )
    rows = found.collect()
    assert len({row.event_id for row in rows}) == len(rows)
    return [{row.event_id for row in rows if row[str(hour)]} for hour in hours]


def test_an_impression_is_clicked_from_the_click_on(spark):
    events = events_of(spark, shown("i"), click("c2", 14), click("c1", 13), shown("never", 1, ad_id="b"))
    assert clicked_by(events, 12, 13, 13.1, 99) == [set(), set(), {"i"}, {"i"}]


def test_a_click_credits_the_latest_impression_until_that_of_its_request_is_in_the_log(spark):
    events = events_of(spark, shown("i"), click("c", 1, request_id="r"), shown("its own", 13, request_id="r"))
    assert clicked_by(events, 1, 12, 13, 14) == [set(), {"i"}, {"i"}, {"its own"}]


@pytest.mark.parametrize("seed", [4, 5])
def test_what_was_clicked_by_a_time_is_what_the_log_before_it_says(spark, seed):
    rows = random_log(seed)
    hours = range(2, 126, 12)
    expected = [set(twin([row for row in rows if row["event_ts"] < NOON + hour * HOUR])) for hour in hours]
    assert clicked_by(events_of(spark, *rows), *hours) == expected
    assert any(before - after for before, after in pairwise(expected))  # a credit lapsed
