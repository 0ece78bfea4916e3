"""What was known of each ad: its counts over everyone, or for the users of a fold over those of all other folds."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ad_statistics import RATE_BOUNDS
from llmrec_spark.training_config import FOLDS

EVERYONE = FOLDS  # in seen_by, beside the inner folds 0 to 4: counts over everyone
COUNTS = ("shown", "clicks", "conversions")


def ad_counts(
    events: DataFrame, impressions: DataFrame | None, *, acts: Sequence[str], conversions: Sequence[str]
) -> DataFrame:
    """One row per ad and inner fold of the users: ad_id, inner_fold, shown, clicks, conversions, as in ad_statistics.

    Both logs are cut to the window and have inner_fold. Without `impressions` (None) shown is 0 here and clicks the
    users with one of `acts` on the ad: a user is of one fold, so these numbers add up over folds.
    """
    key = ["ad_id", "inner_fold"]
    if impressions is None:
        acted = events.where(F.col("event_type").isin(*acts) & F.col("ad_id").isNotNull())
        met = acted.groupBy(*key).agg(F.lit(0).alias("shown"), F.count_distinct("user_id").alias("clicks"))
    else:
        met = impressions.groupBy(*key).agg(F.count("*").alias("shown"), F.count_if("clicked").alias("clicks"))
    bought = events.where(F.col("event_type").isin(*conversions) & F.col("ad_id").isNotNull())
    bought = bought.groupBy(*key).agg(F.count("*").alias("conversions"))
    counts = [F.coalesce(name, F.lit(0)).cast("bigint").alias(name) for name in COUNTS]
    return met.join(bought, on=key, how="full").select(*key, *counts)


def active_users(events: DataFrame) -> DataFrame:
    """inner_fold, shown: the users with any event. What an ad counts as shown in a log without impressions."""
    users = events.groupBy("inner_fold").agg(F.count_distinct("user_id").alias("shown"))
    return users.select("inner_fold", "shown", F.lit(0).alias("clicks"), F.lit(0).alias("conversions"))


def seen_by_everyone(counts: DataFrame, *key: str) -> DataFrame:
    """Counts by inner fold, summed: seen_by (EVERYONE), the columns of `key`, shown, clicks, conversions."""
    return _summed(counts.withColumn("seen_by", F.lit(EVERYONE)), *key)


def seen_by_other_folds(counts: DataFrame, *key: str) -> DataFrame:
    """Counts by inner fold, summed for each fold over the others: seen_by (that fold), `key`, the counts."""
    folds = F.array(*[F.lit(fold) for fold in range(FOLDS)])
    others = F.filter(folds, lambda fold: fold != F.col("inner_fold"))
    return _summed(counts.withColumn("seen_by", F.explode(others)), *key)


def _summed(counts: DataFrame, *key: str) -> DataFrame:
    sums = [F.sum(name).cast("bigint").alias(name) for name in COUNTS]
    return counts.groupBy("seen_by", *key).agg(*sums)


def mean_rates(counts: DataFrame, active: DataFrame | None, ads: DataFrame) -> DataFrame:
    """One row per seen_by: mean_rate, and unmet_shown, what an ad without any count was shown.

    Reads counts (seen_by, ad_id, shown, clicks) and, in a log without impressions, `active` (seen_by, shown). There
    an ad counts as shown to all of them, so mean_rate is clicks / (active users x ads).
    """
    totals = counts.groupBy("seen_by").agg(F.sum("shown").alias("shown"), F.sum("clicks").alias("clicks"))
    if active is None:
        return totals.select("seen_by", _held(F.col("shown")).alias("mean_rate"), F.lit(0).alias("unmet_shown"))
    known = ads.agg(F.count("*").alias("ads"))
    users = active.select("seen_by", F.col("shown").alias("unmet_shown"))
    return (
        totals.drop("shown")
        .join(users, on="seen_by", how="full")
        .crossJoin(F.broadcast(known))
        .select("seen_by", _held(F.col("unmet_shown") * F.col("ads")).alias("mean_rate"), "unmet_shown")
    )


def _held(shown: Column) -> Column:
    low, high = RATE_BOUNDS
    rate = F.coalesce(F.try_divide("clicks", shown), F.lit(0.0))
    return F.least(F.greatest(rate, F.lit(low)), F.lit(high))
