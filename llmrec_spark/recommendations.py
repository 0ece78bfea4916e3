"""The published day: audited lists of a run, as readers find them."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import AuditConfig, RankingConfig
from llmrec_spark.errors import AuditError
from llmrec_spark.matches import significant
from llmrec_spark.tables import RECOMMENDATIONS

EXACT = 1e-4  # how far the reasons' sum may be from log_odds


def audit(
    rankings: DataFrame, live: DataFrame, exclusions: DataFrame, users: DataFrame, *, ranking: RankingConfig
) -> DataFrame:
    """One row of counts that must be 0, and of the shares that AuditConfig bounds, for a run's `rankings`.

    Returns  lists, cold_share, short_share, and per check how many rows break it

    Reads    live: ad_id, advertiser_id, category, unique by ad_id; exclusions: user_id, ad_id; users: user_id, unique
    """
    marked = (
        rankings.join(
            F.broadcast(live.select("ad_id", "advertiser_id", "category", F.lit(True).alias("is_live"))),
            on="ad_id",
            how="left",
        )
        .join(
            exclusions.select("user_id", "ad_id", F.lit(True).alias("is_excluded")), on=["user_id", "ad_id"], how="left"
        )
        .join(users.select("user_id", F.lit(True).alias("is_user")), on="user_id", how="left")
    )
    explained = F.aggregate("reasons", F.lit(0.0), lambda total, reason: total + reason["contribution"])
    is_explained = F.coalesce(F.abs(explained - F.col("log_odds")) <= EXACT, F.lit(False))
    is_finite = F.col("score").isNotNull() & ~F.isnan("score") & (F.abs("score") < F.lit(float("inf")))
    category = F.when(F.size("category") > 0, F.to_json("category"))  # as the caps of rankings count them
    by_rank = F.array_sort(F.collect_list(F.struct("rank", significant(F.col("score")).alias("score"))))
    pairs = F.zip_with(
        "by_rank.score", F.slice("by_rank.score", 2, F.size("by_rank")), lambda a, b: b.isNull() | (a >= b)
    )
    in_order = F.forall(pairs, lambda holds: holds)
    lists = marked.groupBy("user_id").agg(
        F.count("*").alias("length"),
        (F.count_distinct("ad_id") != F.count("*")).alias("doubled"),
        (F.array_sort(F.collect_list("rank")) != F.sequence(F.lit(1), F.count("*").cast("int"))).alias("gap"),
        F.first("source", ignorenulls=True).alias("source"),
        by_rank.alias("by_rank"),
        F.count_if(F.col("is_live").isNull()).alias("not_live"),
        F.count_if("is_excluded").alias("excluded"),
        F.count_if(F.col("is_user").isNull()).alias("unknown_user"),
        F.count_if(~is_finite).alias("not_finite"),
        F.count_if(~is_explained).alias("unexplained"),
        _over_cap(F.col("advertiser_id"), ranking.max_per_advertiser).alias("over_advertiser"),
        _over_cap(category, ranking.max_per_category).alias("over_category"),
    )
    return lists.agg(
        F.count("*").alias("lists"),
        F.coalesce(F.avg((F.col("source") == "cold_start").cast("double")), F.lit(0.0)).alias("cold_share"),
        F.coalesce(F.avg((F.col("length") < ranking.max_per_user).cast("double")), F.lit(0.0)).alias("short_share"),
        F.count_if(F.col("length") > ranking.max_per_user).alias("lists longer than K"),
        F.count_if("doubled").alias("lists with an ad twice"),
        F.count_if("gap").alias("lists whose ranks are not 1 to n"),
        F.count_if(~in_order).alias("lists out of order"),
        F.count_if("over_advertiser").alias("lists over the advertiser cap"),
        F.count_if("over_category").alias("lists over the category cap"),
        F.coalesce(F.sum("not_live"), F.lit(0)).alias("rows whose ad is not live"),
        F.coalesce(F.sum("excluded"), F.lit(0)).alias("rows of an excluded ad"),
        F.coalesce(F.sum("unknown_user"), F.lit(0)).alias("rows of an unknown user"),
        F.coalesce(F.sum("not_finite"), F.lit(0)).alias("rows without a finite score"),
        F.coalesce(F.sum("unexplained"), F.lit(0)).alias("rows whose reasons do not add up to log_odds"),
    )


def _over_cap(value: Column, cap: int | None) -> Column:
    """Whether a list holds more than `cap` rows of one value, a string; NULL is not capped."""
    if cap is None:
        return F.lit(False)
    values = F.collect_list(value)
    most = F.array_max(
        F.transform(F.array_distinct(values), lambda one: F.size(F.filter(values, lambda other: other == one)))
    )
    return F.coalesce(most, F.lit(0)) > cap


def list_counts(users: DataFrame, rankings: DataFrame, matches: DataFrame, *, length: int) -> DataFrame:
    """One row: users, users_cold_start, users_without_list, and lists shorter than `length` by their reason.

    short_lists_too_few_ads: fewer ads were left to the user than a list holds; short_lists_by_rules: exclusions,
    caps and near duplicates took the rest. users has one row a user.
    """
    lists = rankings.groupBy("user_id").agg(F.count("*").alias("length"), F.first("source").alias("source"))
    found = matches.groupBy("user_id").agg(F.count("*").alias("matched"))
    of_users = users.join(lists, on="user_id", how="left").join(found, on="user_id", how="left")
    is_short = F.coalesce("length", F.lit(0)) < length
    few = F.coalesce("matched", F.lit(0)) < length
    return of_users.agg(
        F.count("*").alias("users"),
        F.count_if(F.col("source") == "cold_start").alias("users_cold_start"),
        F.count_if(F.col("length").isNull()).alias("users_without_list"),
        F.count_if(is_short & few).alias("short_lists_too_few_ads"),
        F.count_if(is_short & ~few).alias("short_lists_by_rules"),
    )


def refuse_bad_lists(run_id: str, found: dict[str, float], config: AuditConfig) -> None:
    """Raises AuditError naming each check of `found` (the row of `audit`) that failed and on how much."""
    bounds = {"lists": found["lists"], "cold_share": found["cold_share"], "short_share": found["short_share"]}
    failed = [f"{name}: {count}" for name, count in found.items() if name not in bounds and count]
    if bounds["lists"] < config.min_users:
        failed.append(f"audit.min_users: found {bounds['lists']} lists, expected {config.min_users} or more")
    if bounds["cold_share"] > config.max_cold_share:
        failed.append(
            f"audit.max_cold_share: found {bounds['cold_share']:.3f}, expected {config.max_cold_share} or less"
        )
    if bounds["short_share"] > config.max_short_share:
        failed.append(
            f"audit.max_short_share: found {bounds['short_share']:.3f}, expected {config.max_short_share} or less"
        )
    if failed:
        raise AuditError(f"rankings of run {run_id}: nothing was published; {'; '.join(failed)}.")


def recommendations(rankings: DataFrame, *, run_date: date) -> DataFrame:
    """The columns of RECOMMENDATIONS from a run's rankings, sorted by user_bucket so that its statistics prune."""
    return (
        rankings.withColumns(
            {"run_date": F.lit(str(run_date)).cast("date"), "user_bucket": F.substring(F.md5("user_id"), 1, 2)}
        )
        .select(*[column.name for column in RECOMMENDATIONS.columns])
        .repartitionByRange("user_bucket")
        .sortWithinPartitions("user_bucket", "user_id", "rank")
    )


def published_by(recommendations: DataFrame, *, run_date: date) -> DataFrame:
    """run_id and model_version behind the rows of a day: one row, or none where the day is not published."""
    of_day = recommendations.where(F.col("run_date") == F.lit(str(run_date)).cast("date"))
    return of_day.select("run_id", "model_version").limit(1)
