"""What must not be shown to whom, and why."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.events import midnight


def hidden(events: DataFrame, *, negative: Sequence[str]) -> DataFrame:
    """user_id, ad_id, reason `hidden`: every ad of an event of a `negative` type, for ever."""
    rows = events.where(F.col("event_type").isin(*negative) & F.col("ad_id").isNotNull())
    return rows.select("user_id", "ad_id", F.lit("hidden").alias("reason"))


def converted(events: DataFrame, *, as_of: date, conversions: Sequence[str], days: int) -> DataFrame:
    """user_id, ad_id, reason `converted`: what the user converted on in the last `days`."""
    rows = events.where(F.col("event_type").isin(*conversions) & F.col("ad_id").isNotNull())
    recent = rows.where(F.col("event_ts") >= midnight(as_of - timedelta(days=days)))
    return recent.select("user_id", "ad_id", F.lit("converted").alias("reason"))


def resting(impressions: DataFrame, *, as_of: date, shown: int, days: int) -> DataFrame:
    """user_id, ad_id, reason `resting`: ads shown `shown` times without a click rest for `days` from the last time.

    Impressions count from the user's last clicked one on; each further `shown` impressions start another rest.
    """
    of_pair = Window.partitionBy("user_id", "ad_id")
    in_order = of_pair.orderBy("event_ts", "event_id").rowsBetween(Window.unboundedPreceding, Window.currentRow)
    last_clicked = F.max(F.when(F.col("clicked"), F.struct("event_ts", "event_id"))).over(of_pair)
    since = F.col("last_clicked").isNull() | (F.struct("event_ts", "event_id") > F.col("last_clicked"))
    starts_rest = F.col("number") % shown == 0
    is_recent = F.col("event_ts") >= midnight(as_of - timedelta(days=days))
    return (
        impressions.withColumn("last_clicked", last_clicked)
        .where(since)
        .withColumn("number", F.count("*").over(in_order))
        .where(starts_rest & is_recent)
        .select("user_id", "ad_id", F.lit("resting").alias("reason"))
    )


def exclusions(*parts: DataFrame) -> DataFrame:
    """One row per user and ad of `parts`: user_id, ad_id, reason; the first part that names a pair gives its reason."""
    numbered = [part.withColumn("part", F.lit(number)) for number, part in enumerate(parts)]
    together = numbered[0]
    for part in numbered[1:]:
        together = together.unionByName(part)
    return together.groupBy("user_id", "ad_id").agg(F.min_by("reason", "part").alias("reason"))
