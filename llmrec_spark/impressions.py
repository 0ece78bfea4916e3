"""Which impression a click belongs to. The one place where a click meets its impression; not stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.events import midnight

CREDIT_HOURS = 24
COLUMNS = ("event_id", "user_id", "ad_id", "event_ts", "request_id", "position", "propensity")
LAPSE = "struct<since: timestamp, until: timestamp>"


def credited_clicks(
    events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str], since: Sequence[date] = ()
) -> DataFrame:
    """One row per click: click_id (its event_id), user_id, ad_id, clicked_ts, cost, event_id (of its impression).

    A click credits one impression: the earliest of its user, ad and request_id, or else, where it has no request_id
    or that request has no such impression, the latest of its user and ad in the 24 hours before it. event_id is NULL
    where there is none. Events at one instant are ordered by event_id. With `since` the rows are of several logs, each
    from one of these days on, 00:00 UTC, which is in since.
    """
    found = _possible_credits(events, impressions=impressions, clicks=clicks, since=since)
    columns = ["click_id", "user_id", "ad_id", "clicked_ts", "cost", *_by(since)]
    return found.select(*columns, F.coalesce("by_request.event_id", "by_time.event_id").alias("event_id"))


def _possible_credits(
    events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str], since: Sequence[date] = ()
) -> DataFrame:
    """Of each click the impression by_request and that by_time, structs of event_ts and event_id, NULL if none."""
    shown = events.where(F.col("event_type").isin(*impressions))
    clicked = events.where(F.col("event_type").isin(*clicks))
    impression, columns = F.struct("event_ts", "event_id"), ["user_id", "ad_id", "request_id", "event_ts", "event_id"]
    sides = shown.select(
        *columns,
        F.lit(0).alias("is_click"),  # an impression at the click's instant comes before it
        F.lit(None).cast("double").alias("cost"),
        impression.alias("impression"),
    ).unionByName(
        clicked.select(
            *columns,
            F.lit(1).alias("is_click"),
            "cost",
            F.lit(None).cast("struct<event_ts: timestamp, event_id: string>").alias("impression"),
        )
    )
    so_far = (
        Window.partitionBy("user_id", "ad_id")
        .orderBy("event_ts", "is_click", "event_id")
        .rowsBetween(Window.unboundedPreceding, Window.currentRow)
    )
    with_latest = sides.withColumn("latest", F.last("impression", ignorenulls=True).over(so_far)).where("is_click = 1")
    after = F.unix_micros("event_ts") - F.unix_micros("latest.event_ts")  # an INTERVAL of hours counts days of the zone
    in_time = after <= CREDIT_HOURS * 3_600_000_000
    if since:
        in_time &= F.col("latest.event_ts") >= midnight(F.col("since"))
    of_request = [*_by(since), "user_id", "ad_id", "request_id"]
    asked_for = shown.join(clicked, on=["user_id", "ad_id", "request_id"], how="left_semi")
    first_shown = _of_each(asked_for, since).groupBy(*of_request).agg(F.min(impression).alias("by_request"))
    return (
        _of_each(with_latest, since)
        .join(first_shown, on=of_request, how="left")
        .select(
            *_by(since),
            F.col("event_id").alias("click_id"),
            "user_id",
            "ad_id",
            F.col("event_ts").alias("clicked_ts"),
            "cost",
            "by_request",
            F.when(in_time, F.col("latest")).alias("by_time"),
        )
    )


def _by(since: Sequence[date]) -> list[str]:
    return ["since"] if since else []


def _of_each(rows: DataFrame, since: Sequence[date]) -> DataFrame:
    """`rows`, once for each log that they are part of."""
    if not since:
        return rows
    first_days = F.array(*[F.lit(day) for day in since])
    return rows.withColumn("since", F.explode(first_days)).where(F.col("event_ts") >= midnight(F.col("since")))


def clicked_impressions(events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str]) -> DataFrame:
    """One row per impression: event_id, user_id, ad_id, event_ts, request_id, position, propensity, clicked[_ts],
    click_ids.

    The clicks are those that credited_clicks gives it, clicked_ts that of the first; NULL where there is none.
    """
    credits = (
        credited_clicks(events, impressions=impressions, clicks=clicks)
        .where(F.col("event_id").isNotNull())
        .groupBy("event_id")
        .agg(F.min("clicked_ts").alias("clicked_ts"), F.sort_array(F.collect_set("click_id")).alias("click_ids"))
    )
    return (
        events.where(F.col("event_type").isin(*impressions))
        .select(*COLUMNS)
        .join(credits, on="event_id", how="left")
        .select(*COLUMNS, F.col("clicked_ts").isNotNull().alias("clicked"), "clicked_ts", "click_ids")
    )


def impressions_over_time(events: DataFrame, *, impressions: Sequence[str], clicks: Sequence[str]) -> DataFrame:
    """One row per impression: event_id, user_id, ad_id, event_ts, request_id, position, propensity, and its clicks.

    `was_clicked` reads these, clicked_ts and lapsing: it is what clicked_impressions says of the log before any time.
    A click that came before the first impression of its request is credited by time until that impression is in the
    log; lapsing has since and until of every such credit, clicked_ts is the first click that is credited for good.
    """
    requested, latest = F.col("by_request"), F.col("by_time")
    found, lapses = F.coalesce(requested, latest), requested["event_ts"] > F.col("clicked_ts")
    for_good = F.struct(found["event_id"].alias("event_id"), "clicked_ts", F.lit(None).cast(LAPSE).alias("lapse"))
    lapse = F.struct(F.col("clicked_ts").alias("since"), requested["event_ts"].alias("until"))
    no_time = F.lit(None).cast("timestamp")
    until_then = F.struct(latest["event_id"].alias("event_id"), no_time.alias("clicked_ts"), lapse.alias("lapse"))
    either = F.array(F.when(found.isNotNull(), for_good), F.when(latest.isNotNull() & lapses, until_then))
    credits = (
        _possible_credits(events, impressions=impressions, clicks=clicks)
        .select(F.inline(F.array_compact(either)))
        .groupBy("event_id")
        .agg(F.min("clicked_ts").alias("clicked_ts"), F.collect_list("lapse").alias("lapsing"))
    )
    shown = events.where(F.col("event_type").isin(*impressions)).select(*COLUMNS)
    return shown.join(credits, on="event_id", how="left").select(*COLUMNS, "clicked_ts", "lapsing")


def was_clicked(before: Column) -> Column:
    """Whether an impression of impressions_over_time is clicked in the log before a time."""
    lapsed = F.exists("lapsing", lambda one: (one["since"] < before) & (before <= one["until"]))
    return F.coalesce(F.col("clicked_ts") < before, F.lit(False)) | F.coalesce(lapsed, F.lit(False))
