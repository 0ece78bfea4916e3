import random
from datetime import timedelta

import pytest

from llmrec_spark.events import checked_events, with_consent
from llmrec_spark.quarantine import accepted
from tests.conftest import at, session_time_zone, utc
from tests.spark.rows import DAY, MIDNIGHT, NOON, SEARCHES, TYPES, event, events_of, users_of

LATER = "later"
CASES = {  # tag -> (the row, what becomes of it: a reason, LATER, or None where it is accepted)
    "good": (event("e1"), None),
    "null event_id": (event(None), "NULL event_id"),
    "null user_id": (event("e2", user_id=None), "NULL user_id"),
    "null type": (event("e3", None), "unknown event_type"),
    "unknown type": (event("e4", "purchse"), "unknown event_type"),
    "null ad_id": (event("e5", ad_id=None), "NULL ad_id"),
    "search without ad": (event("e6", "search", ad_id=None), None),
    "null time": (event("e7", event_ts=None), "NULL event_ts"),
    "before 2000": (event("e8", event_ts=at("1999-12-31 23:59:59.999999")), "impossible event_ts"),
    "first of 2000": (event("e9", event_ts=at("2000-01-01 00:00")), None),
    "first of 2100": (event("e10", event_ts=at("2100-01-01 00:00")), "impossible event_ts"),
    "last of 2099": (event("e11", event_ts=at("2099-12-31 23:59:59.999999")), LATER),
    "last of the day before": (event("e12", event_ts=MIDNIGHT - timedelta(microseconds=1)), None),
    "first of the day": (event("e13", event_ts=MIDNIGHT), LATER),
    "later without ad": (event("e14", event_ts=MIDNIGHT, ad_id=None), "NULL ad_id"),
    "first position": (event("e15", "impression", position=1), None),
    "position that counts from 0": (event("e16", "impression", position=0), "position below 1"),
    "what has no position": (event("e17", "hide", position=0), None),
    "all keys null": (event(None, None, None, user_id=None, ad_id=None), "NULL event_id"),
}


def check(events):
    return checked_events(events, as_of=DAY, types=TYPES, searches=SEARCHES, impressions=["impression"])


def outcomes(events):
    """What became of each row, by its query, which is its tag."""
    rows = check(events).select("query", "refused", "is_later").collect()
    assert all(row.is_later is False or (row.is_later and row.refused is None) for row in rows)
    return {row.query: LATER if row.is_later else row.refused for row in rows}


@pytest.fixture(scope="module")
def found(spark):
    return outcomes(events_of(spark, *[row | {"query": tag} for tag, (row, _) in CASES.items()]))


@pytest.mark.parametrize("tag", CASES)
def test_each_event_is_accepted_later_or_refused_with_its_reason(found, tag):
    assert found[tag] == CASES[tag][1]


def test_the_day_begins_at_midnight_utc_in_any_time_zone_of_the_session(spark):
    before, first = event("e1", event_ts=MIDNIGHT - timedelta(seconds=1)), event("e2", event_ts=MIDNIGHT)
    with session_time_zone(spark, "America/New_York"):
        assert outcomes(events_of(spark, before | {"query": "before"}, first | {"query": "first"})) == {
            "before": None,
            "first": LATER,
        }


def test_an_empty_log_stays_empty(spark):
    assert check(events_of(spark)).count() == 0


def test_of_doubled_ids_the_earliest_event_stays(spark):
    late = event("e", event_ts=NOON, query="late")
    early = event("e", event_ts=NOON - timedelta(hours=1), query="early")
    assert outcomes(events_of(spark, late, early)) == {"early": None, "late": "doubled event_id"}


@pytest.mark.parametrize("partitions", [1, 5])
def test_doubles_of_one_instant_are_settled_by_their_content(spark, partitions):
    rows = [event("e", ad_id=ad_id) for ad_id in "cabed"]
    kept = []
    for seed in range(3):
        shuffled = random.Random(seed).sample(rows, len(rows))
        kept += [row.ad_id for row in accepted(check(events_of(spark, *shuffled).repartition(partitions))).collect()]
    assert kept == ["a", "a", "a"]


def test_a_refused_row_does_not_take_the_place_of_a_good_double(spark):
    broken = event("e", "unheard of", NOON - timedelta(hours=1), query="broken")
    assert outcomes(events_of(spark, broken, event("e", query="good"))) == {
        "broken": "unknown event_type",
        "good": None,
    }


def test_a_double_after_the_day_is_later_and_not_refused(spark):
    assert outcomes(
        events_of(spark, event("e", event_ts=MIDNIGHT, query="second copy"), event("e", query="first copy"))
    ) == {"first copy": None, "second copy": LATER}


def test_doubles_after_the_day_are_all_later(spark):
    assert outcomes(
        events_of(spark, event("e", event_ts=MIDNIGHT, query="1"), event("e", event_ts=MIDNIGHT, query="2"))
    ) == {"1": LATER, "2": LATER}


def twin(rows):
    """The ids and ads accepted, how many refused and how many later: one row after the other."""
    kept, refused, later = {}, 0, 0
    for row in rows:
        ts = row["event_ts"]
        has_keys = row["event_id"] is not None and row["user_id"] is not None and row["event_type"] in TYPES
        has_ad = row["ad_id"] is not None or row["event_type"] in SEARCHES
        if not has_keys or not has_ad or ts is None or not at("2000-01-01") <= ts < at("2100-01-01"):
            refused += 1
        elif ts >= MIDNIGHT:
            later += 1
        else:
            best = kept.setdefault(row["event_id"], row)
            refused += best is not row
            if ts < best["event_ts"]:
                kept[row["event_id"]] = row
    return {(key, row["event_ts"]) for key, row in kept.items()}, refused, later


@pytest.mark.parametrize("partitions", [1, 5])
def test_accepted_refused_and_later_rows_are_those_of_a_plain_loop_on_dirt(spark, partitions):
    draw = random.Random(partitions).choice
    times = [None, at("1970-01-01"), MIDNIGHT, *[MIDNIGHT + timedelta(hours=hour) for hour in range(-9, 3)]]
    rows = [
        event(draw([None, *"abcdefghij"]), draw([None, "clik", *TYPES]), draw(times), ad_id=draw([None, "x", "y"]))
        | {"user_id": draw([None, "u", "v", "w"])}
        for _ in range(400)
    ]
    checked = check(events_of(spark, *rows).repartition(partitions)).cache()
    used = {(row.event_id, utc(row.event_ts)) for row in accepted(checked.where("NOT is_later")).collect()}
    counts = checked.where("refused IS NOT NULL").count(), checked.where("is_later").count()
    assert (used, *counts) == twin(rows)
    assert len(used) + sum(counts) == checked.count() == len(rows)


def test_only_the_events_of_consenting_users_are_kept(spark):
    events = events_of(spark, *[event(user, user_id=user) for user in ("yes", "no", "null", "unlisted")])
    users = users_of(
        spark,
        {"user_id": "yes", "consent": True},
        {"user_id": "no", "consent": False},
        {"user_id": "null", "consent": None},
    )
    assert [row.user_id for row in with_consent(events, users).collect()] == ["yes"]


def test_without_a_table_of_users_every_event_is_kept(spark):
    events = events_of(spark, event("e"))
    assert with_consent(events, None) is events
