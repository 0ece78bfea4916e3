"""Which impression a click belongs to. The one place where a click meets its impression; not stored."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

CREDIT_HOURS = 24


def credited_clicks(events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str]) -> DataFrame:
    """One row per click: click_id (its event_id), user_id, ad_id, clicked_ts, cost, event_id (of its impression).

    A click credits one impression: the earliest of its user, ad and request_id, or else, where it has no request_id
    or that request has no such impression, the latest of its user and ad in the 24 hours before it. event_id is NULL
    where there is none. Events at one instant are ordered by event_id.
    """
    shown = events.where(F.col("event_type").isin(*impressions))
    clicked = events.where(F.col("event_type").isin(*clicks))
    of_request = ["user_id", "ad_id", "request_id"]
    first_shown = (
        shown.where(F.col("request_id").isNotNull())
        .groupBy(*of_request)
        .agg(F.min_by("event_id", F.struct("event_ts", "event_id")).alias("by_request"))
    )
    by_time = clicked.join(first_shown, on=of_request, how="left")
    sides = shown.select(
        "user_id",
        "ad_id",
        "event_ts",
        "event_id",
        F.lit(0).alias("is_click"),  # an impression at the click's instant comes before it
        F.lit(None).cast("double").alias("cost"),
        F.lit(None).cast("string").alias("by_request"),
        F.struct("event_ts", "event_id").alias("impression"),
    ).unionByName(
        by_time.select(
            "user_id",
            "ad_id",
            "event_ts",
            "event_id",
            F.lit(1).alias("is_click"),
            "cost",
            "by_request",
            F.lit(None).cast("struct<event_ts: timestamp, event_id: string>").alias("impression"),
        )
    )
    so_far = (
        Window.partitionBy("user_id", "ad_id")
        .orderBy("event_ts", "is_click", "event_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    latest = F.last("impression", ignorenulls=True).over(so_far)
    in_time = F.col("event_ts") <= F.col("latest.event_ts") + F.expr(f"INTERVAL {CREDIT_HOURS} HOURS")
    return (
        sides.withColumn("latest", latest)
        .where("is_click = 1")
        .select(
            F.col("event_id").alias("click_id"),
            "user_id",
            "ad_id",
            F.col("event_ts").alias("clicked_ts"),
            "cost",
            F.coalesce("by_request", F.when(in_time, F.col("latest.event_id"))).alias("event_id"),
        )
    )


def clicked_impressions(events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str]) -> DataFrame:
    """One row per impression: event_id, user_id, ad_id, event_ts, request_id, position, propensity, clicked[_ts].

    `clicked_ts` is the first click that credited_clicks gives it, NULL where there is none.
    """
    credits = (
        credited_clicks(events, impressions=impressions, clicks=clicks)
        .where(F.col("event_id").isNotNull())
        .groupBy("event_id")
        .agg(F.min("clicked_ts").alias("clicked_ts"))
    )
    columns = ["event_id", "user_id", "ad_id", "event_ts", "request_id", "position", "propensity"]
    return (
        events.where(F.col("event_type").isin(*impressions))
        .select(*columns)
        .join(credits, on="event_id", how="left")
        .select(*columns, F.col("clicked_ts").isNotNull().alias("clicked"), "clicked_ts")
    )
