"""Which events count: keys, types and times checked, doubles refused, consent respected."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.input_tables import EVENTS
from llmrec_spark.quarantine import REFUSED, refuse_doubles

SECONDS_PER_DAY = 86_400
EARLIEST, LATEST = "2000-01-01 00:00:00Z", "2100-01-01 00:00:00Z"


def midnight(day: date | Column) -> Column:
    """00:00 UTC of a day, or of each day of a column of dates, whatever the session's time zone."""
    if isinstance(day, date):
        return F.lit(f"{day} 00:00:00Z").cast("timestamp")
    return F.timestamp_seconds(F.unix_date(day).cast("bigint") * SECONDS_PER_DAY)


def day_of(happened: str) -> Column:
    """The UTC day of a timestamp, whatever the session's time zone."""
    return F.date_from_unix_date(F.floor(F.unix_seconds(happened) / SECONDS_PER_DAY).cast("int"))


def is_over(hours: float, until: date) -> Column:
    """Whether so many hours after event_ts are over at `until` 00:00 UTC."""
    left = F.unix_micros(midnight(until)) - F.unix_micros("event_ts")
    return left >= F.lit(hours * 3_600e6)


def checked_events(
    events: DataFrame, *, as_of: date, types: Sequence[str], searches: Sequence[str], impressions: Sequence[str]
) -> DataFrame:
    """`events` with `refused` (a reason or NULL) and `is_later` (from `as_of` 00:00 UTC on: not used, not refused).

    Reads    the columns of EVENTS
    Returns  them, is_later, refused

    Refused: a NULL key, an unknown type, a time before 2000 or from 2100 on, an impression at a position below 1, and
    of several events with one event_id all but the earliest before `as_of`. Another event's position below 1 is NULL.
    """
    is_search = F.col("event_type").isin(*searches)
    is_possible = F.col("event_ts").between(F.lit(EARLIEST).cast("timestamp"), F.lit(LATEST).cast("timestamp"))
    is_possible &= F.col("event_ts") < F.lit(LATEST).cast("timestamp")
    reason = (
        F.when(F.col("event_id").isNull(), "NULL event_id")
        .when(F.col("user_id").isNull(), "NULL user_id")
        .when(F.col("event_type").isNull() | ~F.col("event_type").isin(*types), "unknown event_type")
        .when(F.col("ad_id").isNull() & ~is_search, "NULL ad_id")
        .when(F.col("event_ts").isNull(), "NULL event_ts")
        .when(~is_possible, "impossible event_ts")
        .when(F.col("event_type").isin(*impressions) & (F.col("position") < 1), "position below 1")
    )
    is_place = F.col("event_type").isin(*impressions) | (F.col("position") >= 1)
    ours = [column.name for column in EVENTS.columns]
    is_later = F.col(REFUSED).isNull() & (F.col("event_ts") >= midnight(as_of))
    marked = events.withColumn(REFUSED, reason).withColumn("is_later", is_later)
    marked = marked.withColumn("position", F.when(is_place, F.col("position")))
    earliest_first = ["event_ts", *(name for name in ours if name not in ("event_id", "event_ts"))]
    return refuse_doubles(marked, key=["event_id"], order=earliest_first, among=~F.col("is_later"))


def with_consent(events: DataFrame, users: DataFrame | None) -> DataFrame:
    """The events of users who consent. `users` has one row a user; without it (None) everyone does.

    Someone whom `users` does not list has not consented either.
    """
    if users is None:
        return events
    consenting = users.where("consent").select("user_id")
    return events.join(consenting, on="user_id", how="left_semi")
