"""What a day's log says of other lists: the weight of each impression, sums per user, and how the weights spread.

Propensities are those of an ad server that fills a list from the top: the probability of the ad at its position, given
the ads above it. So where the log had shown the other list's ad further up, it could not show it again: no support.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.matches import significant
from llmrec_spark.policy_values import ESTIMATES, TOP

LOGGED, LIFT, MEAN_WEIGHT = "off_policy_logged", "off_policy_lift", "off_policy_mean_weight"
VALUES = tuple(f"off_policy_{name}" for name in ESTIMATES)
RATIOS = (LOGGED, *VALUES, LIFT, MEAN_WEIGHT)
UNKNOWN, UNLISTED, IMPOSSIBLE = "propensity", "list", "support"  # why an impression has no weight


def place_rates(impressions: DataFrame, *, prior_shown: float) -> DataFrame:
    """position, relative: its click rate over that of all positions, from impressions before the day.

    Reads    position, clicked

    Shrunk like the rate of an ad, by `prior_shown` impressions at the overall rate; no rows where nothing was clicked.
    """
    places = impressions.where(F.col("position") >= 1).groupBy("position")
    counts = places.agg(F.count("*").alias("shown"), F.count_if("clicked").alias("clicks"))
    overall = counts.agg(F.try_divide(F.sum("clicks"), F.sum("shown")).alias("m")).where("m > 0")
    rate = (F.col("clicks") + prior_shown * F.col("m")) / (F.col("shown") + prior_shown)
    return counts.crossJoin(F.broadcast(overall)).select("position", (rate / F.col("m")).alias("relative"))


def list_weights(
    outcomes: DataFrame, lists: DataFrame, rates: DataFrame, places: DataFrame, *, scorer: str
) -> DataFrame:
    """One row per impression: user_id, slice (all), scorer, clicked (0 or 1), weight, expected, expected_of_policy,
    missing: why it has no weight, else NULL.

    outcomes  user_id, request_id, ad_id, position, propensity, clicked
    lists     user_id, rank, ad_id, unique by user and rank, and by user and ad: shown at position = rank for certain
    rates     ad_id, rate; places: position, relative, unique; both from before the day

    expected is rate x relative, at most 1: that of an unknown ad is 0, of an unknown position its ad's rate.
    """
    listed = lists.select("user_id", F.col("rank").alias("position"), F.col("ad_id").alias("listed"))
    further_up = (
        outcomes.select("user_id", "request_id", F.col("ad_id").alias("listed"), F.col("position").alias("at"))
        .join(listed, on=["user_id", "listed"], how="inner")
        .where(F.col("at") < F.col("position"))
        .select("user_id", "request_id", "position", F.lit(True).alias("is_further_up"))
        .distinct()  # a request may show an ad twice
    )
    rates = rates.select("ad_id", "rate")
    expected = F.least(F.coalesce("rate", F.lit(0.0)) * F.coalesce("relative", F.lit(1.0)), F.lit(1.0))
    of_policy = F.least(F.coalesce("listed_rate", F.lit(0.0)) * F.coalesce("relative", F.lit(1.0)), F.lit(1.0))
    known = (F.col("propensity") > 0) & (F.col("propensity") <= 1) & (F.col("position") >= 1)
    missing = (
        F.when(~F.coalesce(known, F.lit(False)), UNKNOWN)
        .when(F.col("listed").isNull(), UNLISTED)
        .when(F.col("is_further_up"), IMPOSSIBLE)
    )
    as_listed = F.when(F.col("ad_id") == F.col("listed"), 1 / F.col("propensity")).otherwise(0.0)
    return (
        outcomes.join(listed, on=["user_id", "position"], how="left")
        .join(further_up, on=["user_id", "request_id", "position"], how="left")
        .join(F.broadcast(rates), on="ad_id", how="left")
        .join(F.broadcast(rates.toDF("listed", "listed_rate")), on="listed", how="left")
        .join(F.broadcast(places), on="position", how="left")
        .withColumn("missing", missing)
        .select(
            "user_id",
            F.lit("all").alias("slice"),
            F.lit(scorer).alias("scorer"),
            F.col("clicked").cast("double").alias("clicked"),
            F.when(F.col("missing").isNull(), as_listed).alias("weight"),
            expected.alias("expected"),
            of_policy.alias("expected_of_policy"),
            "missing",
        )
    )


def policy_sums(weighted: DataFrame, *, clip: float) -> DataFrame:
    """user_id, slice, scorer, sums: the numerators of RATIOS, then their denominators, of the rows that have a weight.

    Reads    user_id, slice, scorer, clicked, weight, expected, expected_of_policy

    off_policy_logged is what these rows earned, off_policy_lift dr minus that, off_policy_mean_weight 1 where the log
    could have shown all that the other list shows.
    """
    weight, reward, one = F.col("weight"), F.col("clicked"), F.lit(1.0)
    robust = F.col("expected_of_policy") + weight * (reward - F.col("expected"))
    earned = {
        "ips": weight * reward,
        "snips": weight * reward,
        "clipped_ips": F.least(weight, F.lit(clip)) * reward,
        "dm": F.col("expected_of_policy"),
        "dr": robust,
    }
    numerators = [reward, *[earned[name] for name in ESTIMATES], robust - reward, weight]
    denominators = [one, *[weight if name == "snips" else one for name in ESTIMATES], one, one]
    return (
        weighted.where(weight.isNotNull())
        .groupBy("user_id", "slice", "scorer")
        .agg(F.array(*[F.sum(term) for term in (*numerators, *denominators)]).alias("sums"))
    )


def weight_spread(weighted: DataFrame) -> DataFrame:
    """One row per slice and scorer: the fields of WeightFigures, by the weights to 6 significant digits.

    Reads    slice, scorer, clicked, weight, missing
    """
    counts = weighted.groupBy("slice", "scorer", significant(F.col("weight")).alias("weight"), "missing").agg(
        F.count("*").alias("rows"), F.sum("clicked").alias("clicks")
    )
    every = Window.partitionBy("slice", "scorer")
    heavier = every.orderBy(F.desc("weight"), "missing").rowsBetween(Window.unboundedPreceding, -1)
    heavy = F.when(F.col("weight") > 0, F.col("rows")).otherwise(0)
    above = F.coalesce(F.sum("heavy").over(heavier), F.lit(0))
    top = F.ceil(F.sum("heavy").over(every) / F.lit(TOP))
    of_top = F.least(F.greatest(F.col("top") - F.col("above"), F.lit(0)), F.col("heavy"))
    weight, rows = F.col("weight"), F.col("rows")

    def effective(of: str) -> Column:  # (sum of weights)^2 / sum of their squares
        total, squares = F.sum(weight * F.col(of)), F.sum(weight * weight * F.col(of))
        return F.coalesce(F.try_divide(total * total, squares), F.lit(0.0))

    def without(reason: str) -> Column:
        return F.coalesce(F.sum(F.when(F.col("missing") == reason, rows)), F.lit(0))

    return (
        counts.withColumn("heavy", heavy)
        .withColumns({"above": above, "top": top})
        .withColumn("of_top", of_top)
        .groupBy("slice", "scorer")
        .agg(
            F.sum(rows).alias("rows"),
            without(UNKNOWN).alias("unknown"),
            without(UNLISTED).alias("unlisted"),
            without(IMPOSSIBLE).alias("impossible"),
            F.coalesce(F.sum(weight * rows), F.lit(0.0)).alias("weight"),
            effective("rows").alias("effective_sample"),
            effective("clicks").alias("effective_clicks"),
            F.coalesce(F.max("weight"), F.lit(0.0)).alias("largest"),
            F.coalesce(F.try_divide(F.sum(weight * F.col("of_top")), F.sum(weight * rows)), F.lit(float("nan"))).alias(
                "top_share"
            ),
        )
    )
