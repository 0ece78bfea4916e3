"""Who gets a list, and which ads each of them may be shown."""

from __future__ import annotations

from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.input_tables import USERS
from llmrec_spark.quarantine import REFUSED, refuse_doubles


def checked_users(users: DataFrame, *, has_consent: bool) -> DataFrame:
    """`users` with `refused`: a NULL user_id, and all but the first row of a user_id. NULL consent becomes false.

    `has_consent` says whether the company's table has that column; without it everyone consents.
    """
    consent = F.coalesce("consent", F.lit(not has_consent))
    marked = users.withColumn("consent", consent).withColumn(
        REFUSED, F.when(F.col("user_id").isNull(), F.lit("NULL user_id"))
    )
    order = [column.name for column in USERS.columns if column.name != "user_id"]  # consent false comes first
    return refuse_doubles(marked, key=["user_id"], order=order)


def scored_users(users: DataFrame | None, events: DataFrame, candidates: DataFrame | None) -> DataFrame:
    """user_id of everyone who gets a list, each once: all of `users`, or else of `events` and `candidates`."""
    if users is not None:
        return users.select("user_id")
    met = events.select("user_id")
    return (met if candidates is None else met.union(candidates.select("user_id"))).distinct()


def checked_candidates(candidates: DataFrame, ads: DataFrame, live: DataFrame, *, on: date) -> DataFrame:
    """The pairs given for a day (date NULL or `on`) with `refused`: NULL keys, doubles, ads unknown or not live.

    Reads    the columns of CANDIDATES; ad_id of `ads` and of `live`, unique in each
    """
    of_day = candidates.where(F.col("date").isNull() | (F.col("date") == F.lit(str(on)).cast("date")))
    marked = (
        of_day.join(F.broadcast(ads.select("ad_id", F.lit(True).alias("is_known"))), on="ad_id", how="left")
        .join(F.broadcast(live.select("ad_id", F.lit(True).alias("is_live"))), on="ad_id", how="left")
        .withColumn(
            REFUSED,
            F.when(F.col("user_id").isNull(), "NULL user_id")
            .when(F.col("ad_id").isNull(), "NULL ad_id")
            .when(F.col("is_known").isNull(), "unknown ad_id")
            .when(F.col("is_live").isNull(), "ad not live"),
        )
        .drop("is_known", "is_live")
    )
    return refuse_doubles(marked, key=["user_id", "ad_id"], order=["date"])
