"""What was known of each ad: its counts over everyone, or for the users of a fold over those of all other folds."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ad_statistics import RATE_BOUNDS, in_window
from llmrec_spark.events import midnight
from llmrec_spark.training_config import FOLDS

EVERYONE = FOLDS  # in seen_by, beside the inner folds 0 to 4: counts over everyone
SEEN = ("counted_before", "seen_by")  # by which day, and by whom
COUNTS = ("shown", "clicks", "conversions")


def before_each(rows: DataFrame, days: Sequence[date], *, window_days: int | None) -> DataFrame:
    """`rows`, each once for every day of `days` that it is before and in whose window it is: counted_before."""
    paired = rows.withColumn("counted_before", F.explode(F.array(*[F.lit(day) for day in days])))
    before = paired.where(F.col("event_ts") < midnight(F.col("counted_before")))
    return in_window(before, as_of=F.col("counted_before"), window_days=window_days)


def ad_counts(
    events: DataFrame, impressions: DataFrame | None, *, acts: Sequence[str], conversions: Sequence[str]
) -> DataFrame:
    """Per counted_before, ad_id and inner_fold of the users: shown, clicks, conversions, as in ad_statistics.

    Both logs are as before_each gives them and have inner_fold. Without `impressions` (None) shown is 0 here and
    clicks the users with one of `acts` on the ad: a user is of one fold, so these numbers add up over folds.
    """
    key = ["counted_before", "ad_id", "inner_fold"]
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
    """counted_before, inner_fold, shown: the users with any event. What an ad counts as shown without impressions."""
    users = events.groupBy("counted_before", "inner_fold").agg(F.count_distinct("user_id").alias("shown"))
    return users.withColumns({"clicks": F.lit(0), "conversions": F.lit(0)})


def seen(counts: DataFrame, *key: str, by_other_folds: bool) -> DataFrame:
    """Counts by inner fold, summed: counted_before, seen_by, the columns of `key`, shown, clicks, conversions.

    seen_by is EVERYONE, and with `by_other_folds` each fold too, of which the sums are over the others.
    """
    folds = F.array(*[F.lit(fold) for fold in range(FOLDS if by_other_folds else 0)], F.lit(EVERYONE))
    seen_by = F.filter(folds, lambda fold: fold != F.col("inner_fold"))
    sums = [F.sum(name).cast("bigint").alias(name) for name in COUNTS]
    return counts.withColumn("seen_by", F.explode(seen_by)).groupBy(*SEEN, *key).agg(*sums)


def mean_rates(counts: DataFrame, active: DataFrame | None, ads: DataFrame) -> DataFrame:
    """One row per counted_before and seen_by: mean_rate, and unmet_shown, what an ad without any count was shown.

    Reads counts (of ads) and, in a log without impressions, `active` (users), both as `seen` gives them. There an ad
    counts as shown to all active users, so mean_rate is clicks / (active users x ads).
    """
    totals = counts.groupBy(*SEEN).agg(F.sum("shown").alias("shown"), F.sum("clicks").alias("clicks"))
    if active is None:
        return totals.select(*SEEN, _held(F.col("shown")).alias("mean_rate"), F.lit(0).alias("unmet_shown"))
    known = ads.agg(F.count("*").alias("ads"))
    users = active.select(*SEEN, F.col("shown").alias("unmet_shown"))
    return (
        totals.drop("shown")
        .join(users, on=list(SEEN), how="full")
        .crossJoin(F.broadcast(known))
        .select(*SEEN, _held(F.col("unmet_shown") * F.col("ads")).alias("mean_rate"), "unmet_shown")
    )


def _held(shown: Column) -> Column:
    low, high = RATE_BOUNDS
    rate = F.coalesce(F.try_divide("clicks", shown), F.lit(0.0))
    return F.least(F.greatest(rate, F.lit(low)), F.lit(high))
