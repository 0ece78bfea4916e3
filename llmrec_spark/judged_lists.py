"""What was shown on a day, one row per user and ad, as a run and the baselines would have ordered it. Not stored."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight

OF_RUN = ("score", "match")  # the run's own order, and its match alone
BASELINES = ("rate", "popularity", "repeats", "random")
SCORERS = (*OF_RUN, *BASELINES)


def judged_ads(outcomes: DataFrame, listed: DataFrame, statistics: DataFrame, behaviours: DataFrame) -> DataFrame:
    """One row per user and ad shown: user_id, ad_id, clicked, source, SCORERS as doubles (best first), is_scored.

    outcomes    as `outcomes` gives them, and of_run: false where the event names another run, whose row it is;
                a user and ad shown several times count once, clicked if any was
    listed      user_id, ad_id, score, match, source of the run, unique by user and ad
    statistics  ad_id, rate, clicks: of the run, from before the day
    behaviours  user_id, ad_id, event_type of before the day: what the user acted on, for `repeats`

    score and match are NULL where the run has no row (is_scored false): such ads rank last. popularity is the clicks
    of the ad, repeats how often the user acted on it, random 0 for all: a metric of ties is its expectation.
    """
    shown = outcomes.groupBy("user_id", "ad_id").agg(F.max("clicked").alias("clicked"), F.max("of_run").alias("of_run"))
    before = (
        behaviours.where(F.col("ad_id").isNotNull())
        .join(shown.select("user_id", "ad_id"), on=["user_id", "ad_id"], how="left_semi")
        .groupBy("user_id", "ad_id")
        .agg(F.count("*").cast("double").alias("repeats"))
    )
    of_ads = statistics.select("ad_id", "rate", F.col("clicks").cast("double").alias("popularity"))
    of_run = listed.select("user_id", "ad_id", "score", "match", "source", F.lit(True).alias("is_scored"))
    return (
        shown.join(of_run, on=["user_id", "ad_id"], how="left")
        .withColumns({name: F.when(F.col("of_run"), F.col(name)) for name in (*OF_RUN, "source", "is_scored")})
        .join(before, on=["user_id", "ad_id"], how="left")
        .join(F.broadcast(of_ads), on="ad_id", how="left")
        .select(
            "user_id",
            "ad_id",
            "clicked",
            "source",
            *OF_RUN,
            "rate",
            F.coalesce("popularity", F.lit(0.0)).alias("popularity"),
            F.coalesce("repeats", F.lit(0.0)).alias("repeats"),
            F.lit(0.0).alias("random"),
            F.coalesce("is_scored", F.lit(False)).alias("is_scored"),
        )
    )


def listed_order(rankings: DataFrame) -> DataFrame:
    """Rows of RANKINGS as judged_ads reads them: score is minus the rank, so that the list's order is the order."""
    return rankings.select("user_id", "ad_id", (-F.col("rank")).cast("double").alias("score"), "match", "source")


def user_slices(users: DataFrame, met: DataFrame, *, columns: Sequence[str]) -> DataFrame:
    """user_id, slices: `all`, `user=known` or `user=new` (not in `met`), and `column=value` of the users' columns.

    users  user_id, unique, and `columns`; met: user_id of everyone with an event before the day, unique
    """
    known = met.select("user_id", F.lit("user=known").alias("known"))
    of_columns = [
        F.when(F.col(f"`{name}`").isNotNull(), F.concat(F.lit(f"{name}="), F.col(f"`{name}`").cast("string")))
        for name in columns
    ]
    named = F.array(F.lit("all"), F.coalesce("known", F.lit("user=new")), *of_columns)
    return users.join(known, on="user_id", how="left").select("user_id", F.array_compact(named).alias("slices"))


def met_before(events: DataFrame, on: date) -> DataFrame:
    """user_id of everyone with an event before the day, each once."""
    return events.where(F.col("event_ts") < midnight(on)).select("user_id").distinct()
