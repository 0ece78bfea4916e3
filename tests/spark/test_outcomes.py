from datetime import timedelta

import pytest

from llmrec_spark.impressions import clicked_impressions
from llmrec_spark.outcomes import outcomes, settled_acts, settled_clicks
from tests.conftest import session_time_zone
from tests.spark.rows import DAY, MIDNIGHT, event, events_of

HOUR = timedelta(hours=1)


def row(event_id, event_type, hours, **more):
    """An event so many hours after the day's midnight."""
    return event(event_id, event_type, MIDNIGHT + hours * HOUR, **more)


def of_day(spark, *rows, click_hours=24.0, conversion_days=7.0, partitions=1):
    """event_id of the impression -> its outcome."""
    found = outcomes(
        events_of(spark, *rows).repartition(partitions),
        on=[DAY],
        impressions=["impression"],
        clicks=["click"],
        conversions=["purchase"],
        click_hours=click_hours,
        conversion_days=conversion_days,
    ).collect()
    return {one.event_id: one for one in found}


@pytest.mark.parametrize("zone", ["UTC", "America/Los_Angeles"])
def test_impressions_of_the_day_have_an_outcome_and_no_others(spark, zone):
    shown = [row(name, "impression", hours) for name, hours in (("before", -0.1), ("in", 23.9), ("after", 24))]
    with session_time_zone(spark, zone):
        assert set(of_day(spark, *shown)) == {"in"}


@pytest.mark.parametrize("hours, clicked", [(24, True), (24.01, False)])
def test_a_click_counts_within_its_window_also_when_it_names_the_request(spark, hours, clicked):
    shown = row("i", "impression", 0, request_id="r")
    assert of_day(spark, shown, row("c", "click", hours, request_id="r"))["i"].clicked is clicked


def test_a_click_of_the_day_that_belongs_to_an_earlier_request_is_none_of_the_days(spark):
    rows = [row("old", "impression", -30, request_id="r0"), row("i", "impression", 1, request_id="r1")]
    assert not of_day(spark, *rows, row("c", "click", 2, request_id="r0"))["i"].clicked


def test_a_conversion_is_credited_to_the_last_click_before_it(spark):
    rows = [row("i1", "impression", 1, request_id="r1"), row("i2", "impression", 3, request_id="r2")]
    clicks = [row("c1", "click", 2, request_id="r1"), row("c2", "click", 4, request_id="r2")]
    found = of_day(spark, *rows, *clicks, row("p", "purchase", 30, value=9.0), partitions=4)
    assert {name: (one.conversions, one.converted, one.value) for name, one in found.items()} == {
        "i1": (0, False, None),
        "i2": (1, True, 9.0),
    }


def test_a_conversion_after_a_later_days_click_is_not_the_days(spark):
    rows = [row("i", "impression", 1, request_id="r"), row("c", "click", 2, request_id="r")]
    later = [row("i2", "impression", 25, request_id="r2"), row("c2", "click", 26, request_id="r2")]
    assert of_day(spark, *rows, *later, row("p", "purchase", 27, value=9.0))["i"].conversions == 0


@pytest.mark.parametrize("days, conversions", [(7, 1), (7.01, 0)])
def test_a_conversion_counts_within_its_window_of_the_click(spark, days, conversions):
    rows = [row("i", "impression", 0), row("c", "click", 1), row("p", "purchase", 1 + 24 * days)]
    assert of_day(spark, *rows)["i"].conversions == conversions


def test_a_conversion_without_a_click_or_of_another_user_or_ad_is_nobodys(spark):
    rows = [row("i", "impression", 1), row("c", "click", 2)]
    bought = [row("p0", "purchase", 1.5), row("p1", "purchase", 3, user_id="v"), row("p2", "purchase", 3, ad_id="b")]
    assert of_day(spark, *rows, *bought)["i"].conversions == 0


def test_values_of_several_conversions_and_costs_of_clicks_and_impression_add_up(spark):
    rows = [row("i", "impression", 1, cost=0.5, request_id="r"), row("c", "click", 2, cost=1.0, request_id="r")]
    more = [row("c2", "click", 3, cost=1.0, request_id="r"), row("p", "purchase", 4, value=3.0)]
    found = of_day(spark, *rows, *more, row("p2", "purchase", 5, value=4.0))["i"]
    assert (found.clicked, found.conversions, found.value, found.cost) == (True, 2, 7.0, 2.5)


def test_what_the_log_does_not_know_is_null(spark):
    found = of_day(spark, row("i", "impression", 1), row("c", "click", 2), row("p", "purchase", 3))["i"]
    assert (found.value, found.cost, found.run_id, found.propensity) == (None, None, None, None)


def test_a_day_without_impressions_has_no_outcomes(spark):
    assert of_day(spark, row("c", "click", 2)) == {}


def settled(spark, *rows, days=1.0):
    """ad_id -> clicked impressions of which it is known what followed, and those that led to a purchase."""
    events = events_of(spark, *rows)
    of = {"impressions": ["impression"], "clicks": ["click"]}
    found = settled_clicks(
        clicked_impressions(events, **of), events, as_of=DAY, clicks=["click"], conversions=["purchase"], days=days
    )
    return {one.ad_id: (one.settled, one.converted) for one in found.collect()}


def visit(name, hours, ad_id, *, clicks=1):
    """An impression and its clicks, an hour apart."""
    shown = row(f"i{name}", "impression", hours, ad_id=ad_id, request_id=f"r{name}")
    own = [
        row(f"c{name}{number}", "click", hours + number, ad_id=ad_id, request_id=f"r{name}")
        for number in range(1, clicks + 1)
    ]
    return [shown, *own]


def test_a_clicked_impression_is_settled_once_its_windows_are_over_and_an_organic_purchase_is_none_of_it(spark):
    """As the labels of examples have it: nothing else that was bought says what a click leads to."""
    rows = [
        *visit("1", -60, "a"),
        *visit("2", -50.5, "a", clicks=3),  # two clicks too many are no clicked impressions
        *visit("3", -47, "a"),  # its windows of 24 and 24 hours are open
        *(row("p1", "purchase", -47.2, ad_id="a"), row("p2", "purchase", -47.1, ad_id="a")),  # both of visit 2
        *visit("4", -100, "b"),
        row("p3", "purchase", -50, ad_id="b"),  # later than a day after its click
        row("p4", "purchase", -90, ad_id="c"),
        row("c0", "click", -90, ad_id="d"),  # of no impression
    ]
    assert settled(spark, *rows) == {"a": (2, 1), "b": (1, 0)}


def test_without_impressions_what_a_user_did_with_an_ad_on_a_day_is_one_act(spark):
    rows = [
        *(row("v", "view", -60, ad_id="a"), row("c", "click", -59, ad_id="a"), row("p", "purchase", -58, ad_id="a")),
        *(row("v2", "view", -40, ad_id="a"), row("v3", "view", -39, ad_id="a")),  # the day after, and nothing follows
        row("v4", "view", -23, ad_id="a"),  # not a day ago
        row("p5", "purchase", -70, ad_id="b"),  # an act itself, which a purchase is then
    ]
    acts = ["view", "click", "purchase"]
    found = settled_acts(events_of(spark, *rows), as_of=DAY, acts=acts, conversions=["purchase"], days=1.0).collect()
    assert {one.ad_id: (one.settled, one.converted) for one in found} == {"a": (2, 1), "b": (1, 1)}
