"""Ads that a log without impressions does not show, drawn by popularity beside each ad that a user acted on.

A draw is a hash, so it follows from the seed and the example alone. What was drawn is drawn with replacement from a
known distribution q; a loss over a few drawn ads estimates the one over all when ln q is subtracted from every score
(Bengio and Senecal, 2008: Adaptive importance sampling to accelerate training of a neural probabilistic language
model).
"""

from __future__ import annotations

from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

WEIGHT_UNIT = 1_000  # weights are whole numbers of a thousandth, so their sums are exact in any order
BUCKETS = 1_024  # of the range of a draw: draws meet ads by bucket
SPARE_DRAWS = 8  # beyond twice what is wanted; draws of what the user acted on are thrown away


def draw_ranges(ads: DataFrame, acted: DataFrame, *, exponent: float) -> DataFrame:
    """One row per ad of `ads`: first and beyond, its range of a draw from 0 to total - 1, and log_sampling_rate.

    Reads acted: user_id, ad_id before the day. The range is as long as (users who acted on the ad + 1) ** exponent,
    in thousandths, so an ad that nobody met can be drawn too.
    """
    popularity = acted.groupBy("ad_id").agg(F.count_distinct("user_id").alias("users"))
    users = F.coalesce("users", F.lit(0)) + 1
    weight = F.round(F.pow(users, F.lit(exponent)) * WEIGHT_UNIT).cast("bigint")
    weighed = ads.select("ad_id").join(popularity, on="ad_id", how="left").select("ad_id", weight.alias("weight"))
    up_to_here = Window.orderBy("ad_id").rowsBetween(Window.unboundedPreceding, Window.currentRow)  # ads: one task
    total = weighed.agg(F.sum("weight").alias("total"))
    return (
        weighed.withColumn("beyond", F.sum("weight").over(up_to_here))
        .crossJoin(F.broadcast(total))
        .select(
            "ad_id",
            (F.col("beyond") - F.col("weight")).alias("first"),
            "beyond",
            "total",
            F.log(F.col("weight") / F.col("total")).alias("log_sampling_rate"),
        )
    )


def drawn_ads(positives: DataFrame, ranges: DataFrame, *, per_positive: int, seed: int) -> DataFrame:
    """Per row of `positives` at most `per_positive` rows: example_id, user_id, number (from 1), ad_id.

    Reads positives: example_id (unique), user_id, ad_id; never draws an ad that its user has a row of. Fewer rows where
    nearly all draws were of such ads.
    """
    draws = F.explode(F.sequence(F.lit(1), F.lit(2 * per_positive + SPARE_DRAWS)))
    numbered = positives.select("example_id", "user_id", draws.alias("draw"))
    hashed = F.md5(F.concat_ws("|", F.lit(seed).cast("string"), "example_id", F.col("draw").cast("string")))
    number = F.conv(F.substring(hashed, 1, 15), 16, 10).cast("bigint")  # 60 bits: the remainder is as good as even
    width = F.floor(F.col("total") / BUCKETS) + 1
    total = ranges.select("total").limit(1)
    placed = (
        numbered.crossJoin(F.broadcast(total))
        .withColumn("place", number % F.col("total"))
        .withColumn("bucket", F.floor(F.col("place") / width))
        .drop("total")
    )
    buckets = F.sequence(F.floor(F.col("first") / width), F.floor((F.col("beyond") - 1) / width))
    spread = ranges.select("ad_id", "first", "beyond", F.explode(buckets).alias("bucket"))
    is_hit = (F.col("place") >= F.col("first")) & (F.col("place") < F.col("beyond"))
    hits = placed.join(spread, on="bucket", how="inner").where(is_hit)
    others = hits.join(positives.select("user_id", "ad_id"), on=["user_id", "ad_id"], how="left_anti")
    in_order = Window.partitionBy("example_id").orderBy("draw")
    return (
        others.withColumn("number", F.row_number().over(in_order))
        .where(F.col("number") <= per_positive)
        .select("example_id", "user_id", "number", "ad_id")
    )
