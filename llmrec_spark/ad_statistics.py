"""What happened to each ad in the rate window, and the click rate that follows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight

RATE_BOUNDS = (1e-4, 0.5)  # of the overall mean


def in_window(rows: DataFrame, *, as_of: date | Column, window_days: int | None) -> DataFrame:
    """The rows whose event_ts is in the days before `as_of`, a date or theirs; all of them where the window is None."""
    if window_days is None:
        return rows
    return rows.where(F.col("event_ts") >= midnight(F.date_sub(F.lit(as_of), window_days)))


def ad_statistics(
    ads: DataFrame,
    events: DataFrame,
    impressions: DataFrame | None,
    *,
    conversions: Sequence[str],
    acts: Sequence[str],
    prior_shown: float,
    settled: DataFrame | None = None,
) -> DataFrame:
    """One row per ad of `ads`: shown, clicks, conversions, users, rate, mean_value; both logs cut to the window before.
    settled and converted are those of `settled`, as settled_clicks has them; NULL without it.

    rate = (clicks + prior_shown m) / (shown + prior_shown), m the overall mean held in [1e-4, .5]. Without
    `impressions` (None), shown is the number of users with any event and clicks the users with one of `acts` on the ad.
    mean_value is shrunk likewise to the overall mean value of a conversion; NULL where no conversion has a value.
    """
    acted = events.where(F.col("event_type").isin(*acts) & F.col("ad_id").isNotNull())
    if impressions is None:
        active = events.agg(F.count_distinct("user_id").alias("shown"))
        shown = (
            ads.select("ad_id")
            .crossJoin(F.broadcast(active))
            .join(acted.groupBy("ad_id").agg(F.count_distinct("user_id").alias("clicks")), on="ad_id", how="left")
        )
        touched = acted.select("ad_id", "user_id")
    else:
        shown = impressions.groupBy("ad_id").agg(F.count("*").alias("shown"), F.count_if("clicked").alias("clicks"))
        touched = impressions.select("ad_id", "user_id").unionByName(acted.select("ad_id", "user_id"))
    bought = (
        events.where(F.col("event_type").isin(*conversions))
        .groupBy("ad_id")
        .agg(F.count("*").alias("conversions"), F.count("value").alias("valued"), F.sum("value").alias("value"))
    )
    users = touched.groupBy("ad_id").agg(F.count_distinct("user_id").alias("users"))
    counted = (
        ads.select("ad_id")
        .join(shown, on="ad_id", how="left")
        .join(bought, on="ad_id", how="left")
        .join(users, on="ad_id", how="left")
        .na.fill(0)
    )
    if settled is None:
        unknown = F.lit(None).cast("bigint")
        counted = counted.withColumns({"settled": unknown, "converted": unknown})
    else:
        counted = counted.join(settled, on="ad_id", how="left").na.fill(0, ["settled", "converted"])
    low, high = RATE_BOUNDS
    mean = F.coalesce(F.try_divide(F.sum("clicks"), F.sum("shown")), F.lit(0.0))
    overall = counted.agg(
        F.least(F.greatest(mean, F.lit(low)), F.lit(high)).alias("m"),
        F.try_divide(F.sum("value"), F.sum("valued")).alias("v"),
    )
    prior = F.lit(prior_shown)
    return counted.crossJoin(F.broadcast(overall)).select(
        "ad_id",
        F.col("shown").cast("bigint").alias("shown"),
        F.col("clicks").cast("bigint").alias("clicks"),
        F.col("conversions").cast("bigint").alias("conversions"),
        F.col("users").cast("bigint").alias("users"),
        ((F.col("clicks") + prior * F.col("m")) / (F.col("shown") + prior)).alias("rate"),
        ((F.col("value") + prior * F.col("v")) / (F.col("valued") + prior)).alias("mean_value"),
        "settled",
        "converted",
    )
