"""What came of each impression of some days: its click, its conversions, their value, its cost. Not stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.events import day_of, is_over, midnight
from llmrec_spark.impressions import CREDIT_HOURS, credited_clicks

LOOK_BACK_DAYS = 7  # a click of the day may belong to a request of so long ago, and is then no click of the day's


def outcomes(
    events: DataFrame,
    *,
    on: Sequence[date],
    impressions: Sequence[str],
    clicks: Sequence[str],
    conversions: Sequence[str],
    click_hours: float,
    conversion_days: float,
) -> DataFrame:
    """One row per impression of the days of `on`: run_date (its day), event_id, user_id, ad_id, run_id, request_id,
    position, event_ts, propensity, clicked, conversions, converted, value, cost.

    A click counts within `click_hours` of its impression. A conversion is credited to the last click of its user and
    ad in the `conversion_days` before it, and through that click to an impression. value is the sum over the
    conversions, cost that of the impression and of its clicks; NULL where the log has none. events has one row an
    event_id, and reaches back at least to the first day and as far after the last as the windows. For each day the log
    begins LOOK_BACK_DAYS before it, so its rows are the same whichever other days are in `on`.
    """
    since = [day - timedelta(days=LOOK_BACK_DAYS) for day in on]
    known = events.where(F.col("event_ts") >= midnight(min(since)))
    shown = known.where(F.col("event_type").isin(*impressions)).withColumn("run_date", day_of("event_ts"))
    shown = shown.where(F.col("run_date").isin(*on))
    clicked = credited_clicks(known, impressions=impressions, clicks=clicks, since=since)
    of_day = shown.select(
        F.date_sub("run_date", LOOK_BACK_DAYS).alias("since"), "event_id", F.col("event_ts").alias("shown_ts")
    )
    in_time = _after("shown_ts", "clicked_ts") <= click_hours * 3600.0
    counted = clicked.join(of_day, on=["since", "event_id"], how="inner").where(in_time)
    of_clicks = counted.groupBy("event_id").agg(F.count("*").alias("clicks"), F.sum("cost").alias("click_cost"))
    converted = credited_conversions(known, clicks=clicks, conversions=conversions, days=conversion_days)
    of_conversions = (
        converted.join(counted.select("click_id", "event_id"), on="click_id", how="inner")
        .groupBy("event_id")
        .agg(F.count("*").alias("conversions"), F.sum("value").alias("value"))
    )
    columns = ["run_date", "event_id", "user_id", "ad_id", "run_id", "request_id", "position", "event_ts", "propensity"]
    has_cost = F.col("cost").isNotNull() | F.col("click_cost").isNotNull()
    both = F.coalesce("cost", F.lit(0.0)) + F.coalesce("click_cost", F.lit(0.0))
    return (
        shown.join(of_clicks, on="event_id", how="left")
        .drop("value")
        .join(of_conversions, on="event_id", how="left")
        .select(
            *columns,
            F.col("clicks").isNotNull().alias("clicked"),
            F.coalesce("conversions", F.lit(0)).alias("conversions"),
            F.col("conversions").isNotNull().alias("converted"),
            "value",
            F.when(has_cost, both).alias("cost"),
        )
    )


def credited_conversions(
    events: DataFrame, *, clicks: Sequence[str], conversions: Sequence[str], days: float
) -> DataFrame:
    """One row per conversion that a click claims: value, click_id of the last click in `days` before it."""
    clicked = events.where(F.col("event_type").isin(*clicks))
    bought = events.where(F.col("event_type").isin(*conversions))
    sides = clicked.select(
        "user_id",
        "ad_id",
        F.col("event_ts").alias("ts"),
        F.lit(0).alias("is_conversion"),  # a click at the conversion's instant comes before it
        "event_id",
        F.lit(None).cast("double").alias("value"),
        F.struct(F.col("event_ts").alias("clicked_ts"), F.col("event_id").alias("click_id")).alias("click"),
    ).unionByName(
        bought.select(
            "user_id",
            "ad_id",
            F.col("event_ts").alias("ts"),
            F.lit(1).alias("is_conversion"),
            "event_id",
            "value",
            F.lit(None).cast("struct<clicked_ts: timestamp, click_id: string>").alias("click"),
        )
    )
    so_far = (
        Window.partitionBy("user_id", "ad_id")
        .orderBy("ts", "is_conversion", "event_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    return (
        sides.withColumn("latest", F.last("click", ignorenulls=True).over(so_far))
        .where("is_conversion = 1")
        .where(_after("latest.clicked_ts", "ts") <= days * 86_400.0)
        .select("value", F.col("latest.click_id").alias("click_id"))
    )


def settled_clicks(
    shown: DataFrame, events: DataFrame, *, as_of: date, clicks: Sequence[str], conversions: Sequence[str], days: float
) -> DataFrame:
    """ad_id, settled, converted: its clicked impressions whose windows are over at `as_of` 00:00 UTC, and those of them
    that a conversion is credited to, as `outcomes` has it.

    Reads shown, as clicked_impressions has it; events, one row an event_id.
    """
    claimed = credited_conversions(events, clicks=clicks, conversions=conversions, days=days).select("click_id")
    clicked = shown.where(F.col("clicked") & is_over(CREDIT_HOURS + 24.0 * days, as_of))
    led = claimed.distinct().withColumn("led", F.lit(True))
    by_impression = (
        clicked.select("ad_id", "event_id", F.explode("click_ids").alias("click_id"))
        .join(led, on="click_id", how="left")
        .groupBy("ad_id", "event_id")
        .agg(F.count("led").alias("conversions"))
    )
    return _settled(by_impression)


def settled_acts(
    events: DataFrame, *, as_of: date, acts: Sequence[str], conversions: Sequence[str], days: float
) -> DataFrame:
    """The same of a log without impressions: of each user, ad and UTC day the first act, and whether a conversion of
    that user and ad follows it within `days`.
    """
    first = first_acts(events, acts=acts).where(is_over(24.0 * days, as_of))
    led = converted_acts(first, events, conversions=conversions, days=days).withColumn("led", F.lit(True))
    return _settled(first.join(led, on="event_id", how="left").withColumn("conversions", F.col("led").cast("int")))


def first_acts(events: DataFrame, *, acts: Sequence[str]) -> DataFrame:
    """event_id, user_id, ad_id, event_ts of the first act of each user on each ad on each UTC day."""
    acted = events.where(F.col("event_type").isin(*acts) & F.col("ad_id").isNotNull())
    first = F.min(F.struct("event_ts", "event_id")).alias("first")
    by_day = acted.groupBy("user_id", "ad_id", day_of("event_ts").alias("day")).agg(first)
    return by_day.select("first.event_id", "user_id", "ad_id", "first.event_ts")


def converted_acts(first: DataFrame, events: DataFrame, *, conversions: Sequence[str], days: float) -> DataFrame:
    """event_id of those of `first`, as first_acts has them, that a conversion of user and ad follows within `days`."""
    bought = events.where(F.col("event_type").isin(*conversions))
    bought = bought.select("user_id", "ad_id", F.col("event_ts").alias("bought_ts"))
    in_time = _after("event_ts", "bought_ts").between(0.0, days * 86_400.0)
    return first.join(bought, on=["user_id", "ad_id"], how="inner").where(in_time).select("event_id").distinct()


def _settled(rows: DataFrame) -> DataFrame:
    return rows.groupBy("ad_id").agg(
        F.count("*").alias("settled"), F.count_if(F.col("conversions") > 0).alias("converted")
    )


def _after(earlier: str, later: str) -> Column:
    """Seconds from one column of timestamps to another."""
    return (F.unix_micros(later) - F.unix_micros(earlier)) / F.lit(1e6)
