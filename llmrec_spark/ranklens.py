"""RankLens as a company would have it: events, ads and candidates.

Its times are nominal (all lists within 20 minutes), so each user's lists are laid on consecutive days that end on
2021-11-21: the last list on that day, the one before it on the day before, and so on.
"""

from __future__ import annotations

from pathlib import Path

from pyspark.sql import Column, DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from llmrec_spark.errors import DataError

FILES = ("movies", "rankings", "interactions")
LAST_DAY = "2021-11-21"
CLICK_DELAY_S = 5
PEOPLE_PER_FILM = 4  # actors, before director and writer
AS_THEY_ARE = {"runtime": "runtime", "rating": "tmdbVoteAverage"}
LOGARITHMS = {  # of one more: some films have thousands of times what others have
    "log_votes": "tmdbVoteCount",
    "log_popularity": "tmdbPopularity",
    "log_budget": "budget",
    "log_revenue": "revenue",
}
ZERO_IF_UNKNOWN = ("runtime", "budget", "revenue")


def ranklens_tables(spark: SparkSession, folder: Path) -> dict[str, DataFrame]:
    """events, ads and candidates of a RankLens folder. Raises DataError when one of its files is missing."""
    missing = [f"{name}.parquet" for name in FILES if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{folder}: lacks {', '.join(missing)}. Expected the Parquet files of RankLens; see README.md.")
    movies, rankings, clicks = (spark.read.parquet(str((folder / f"{name}.parquet").resolve())) for name in FILES)
    lists = dated_lists(rankings)
    return {"events": events(lists, clicks), "ads": ads(movies), "candidates": candidates(lists)}


def dated_lists(rankings: DataFrame) -> DataFrame:
    """One row per list: request_id, user_id, items, shown_at, from_last (0 for the user's last list).

    Lists of a user are ordered by their time, and at one time by their id.
    """
    newest_first = Window.partitionBy("user").orderBy(F.col("timestamp").cast("bigint").desc(), F.col("id").desc())
    seconds_of_day = (F.col("timestamp").cast("bigint") / 1000).cast("bigint") % 86_400
    last_midnight = F.unix_timestamp(F.lit(f"{LAST_DAY} 00:00:00Z").cast("timestamp"))
    return rankings.withColumn("from_last", F.row_number().over(newest_first) - 1).select(
        F.col("id").alias("request_id"),
        F.col("user").alias("user_id"),
        "items",
        F.timestamp_seconds(last_midnight - F.col("from_last") * 86_400 + seconds_of_day).alias("shown_at"),
        "from_last",
    )


def events(lists: DataFrame, clicks: DataFrame) -> DataFrame:
    """An impression per film of a list, and a click 5 seconds later where the person clicked."""
    shown = lists.select(
        "request_id", "user_id", "shown_at", F.posexplode("items.id").alias("place", "ad_id")
    ).withColumn("position", F.col("place") + 1)
    clicked = clicks.select(F.col("ranking").alias("request_id"), F.col("item").alias("ad_id")).distinct()
    columns = ["event_id", "user_id", "ad_id", "event_type", "event_ts", "request_id", "position"]
    impressions = shown.withColumns(
        {
            "event_id": F.concat_ws("-", F.lit("i"), "request_id", "position"),
            "event_type": F.lit("impression"),
            "event_ts": F.col("shown_at"),
        }
    ).select(columns)
    clicks_made = (
        shown.join(clicked, on=["request_id", "ad_id"], how="left_semi")
        .withColumns(
            {
                "event_id": F.concat_ws("-", F.lit("c"), "request_id", "position"),
                "event_type": F.lit("click"),
                "event_ts": F.timestamp_seconds(F.unix_timestamp("shown_at") + CLICK_DELAY_S),
            }
        )
        .select(columns)
    )
    return impressions.unionByName(clicks_made)


def ads(movies: DataFrame) -> DataFrame:
    """One ad per film: title, description (overview), tags, category (genres), people (cast and makers), and numbers.

    year, runtime (minutes), rating (0 to 10); log_votes, log_popularity, log_budget and log_revenue (US dollars), each
    the logarithm of one more. A runtime, budget or revenue of 0 is NULL: it is not known.
    """
    names = F.concat(
        F.slice(F.transform("topActors", lambda one: one["name"]), 1, PEOPLE_PER_FILM),
        F.array("director.name"),
        F.array("writer.name"),
    )
    return movies.select(
        F.col("id").cast("string").alias("ad_id"),
        "title",
        F.col("overview").alias("description"),
        "tags",
        F.transform("genres", lambda one: one["name"]).alias("category"),
        F.array_distinct(F.filter(names, F.isnotnull)).alias("people"),
        F.year(F.date_add(F.lit("1970-01-01").cast("date"), F.col("releaseDate").cast("int"))).alias("year"),
        *(_number(column).alias(name) for name, column in AS_THEY_ARE.items()),
        *(F.log1p(_number(column)).alias(name) for name, column in LOGARITHMS.items()),
    )


def _number(column: str) -> Column:
    number = F.col(column).cast("double")
    return F.nullif(number, F.lit(0.0)) if column in ZERO_IF_UNKNOWN else number


def candidates(lists: DataFrame) -> DataFrame:
    """The films of each user's last list."""
    return lists.where("from_last = 0").select("user_id", F.explode("items.id").alias("ad_id"))
