"""What was known of the user of each example: behaviours, skips and counts, without what the example's list led to.

The histories of scored users, and of all users unless conf says `history: other_requests`, are of the events before
their day. In the others every other list of the user before the cut may stand, later ones too.
"""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ad_statistics import in_window
from llmrec_spark.config import SequencesConfig
from llmrec_spark.sequences import behaviour_sequences

SECONDS_PER_DAY = 86_400
KEY = ("user_id", "history_id")


def day_of(happened: str) -> Column:
    """The UTC day of a timestamp as text, whatever the session's time zone."""
    return F.date_from_unix_date(F.floor(F.unix_seconds(happened) / SECONDS_PER_DAY).cast("int")).cast("string")


def list_of(*, has_impressions: bool) -> Column:
    """The list of a row with request_id and event_ts: its request, or the day where it or the log has none."""
    day = day_of("event_ts")
    return F.coalesce("request_id", day) if has_impressions else day


def wanted_histories(examples: DataFrame) -> DataFrame:
    """One row per history that examples name: user_id, history_id, started (its list's first time), list_ads."""
    return examples.groupBy(*KEY).agg(F.min("event_ts").alias("started"), F.collect_set("ad_id").alias("list_ads"))


def of_earlier_days(rows: DataFrame, wanted: DataFrame) -> DataFrame:
    """`rows`, behaviours or impressions before the day, each with the history_id that `wanted` has for its user."""
    return rows.join(wanted.select(*KEY), on="user_id", how="inner")


def behaviours_of_other_requests(behaviours: DataFrame, impressions: DataFrame | None, wanted: DataFrame) -> DataFrame:
    """`behaviours` before the cut, once for each history of the user that they may be part of, with its history_id.

    What belongs to the history's own list is left out. So is what happened to one of that list's ads from its first
    time on, unless the event names another list with that ad: it may be what the list led to (a click, a purchase).
    """
    is_own = list_of(has_impressions=impressions is not None) == F.col("history_id")
    is_on_its_ads = F.coalesce(F.array_contains("list_ads", F.col("ad_id")), F.lit(False))  # a search is on no ad
    is_answer = is_on_its_ads & (F.col("event_ts") >= F.col("started"))
    if impressions is not None:
        key = ["user_id", "request_id", "ad_id"]
        lists = impressions.where(F.col("request_id").isNotNull()).select(*key).distinct()  # shown twice in a list
        behaviours = behaviours.join(lists.withColumn("names_list", F.lit(True)), on=key, how="left")
        is_answer &= F.col("names_list").isNull()
    paired = behaviours.join(wanted, on="user_id", how="inner")
    return paired.where(~(is_own | is_answer)).drop("started", "list_ads", "names_list")


def impressions_of_other_requests(impressions: DataFrame, wanted: DataFrame) -> DataFrame:
    """`impressions` before the cut, once for each history of the user whose list is not theirs, with its history_id."""
    paired = impressions.join(wanted.select(*KEY), on="user_id", how="inner")
    return paired.where(list_of(has_impressions=True) != F.col("history_id"))


def training_histories(behaviours: DataFrame, impressions: DataFrame, *, sequences: SequencesConfig) -> DataFrame:
    """The columns of TRAINING_HISTORIES but training_set and run_date, of rows that have a history_id."""
    return behaviour_sequences(
        behaviours,
        impressions,
        max_behaviours=sequences.max_behaviours,
        max_skips=sequences.max_skips,
        by=KEY,
    )


def user_counts(
    behaviours: DataFrame, impressions: DataFrame | None, *, as_of: date, window_days: int | None
) -> DataFrame:
    """One row per history with anything in the window before `as_of`: user_id, history_id, user_shown, user_clicks.

    Reads rows that have a history_id. Without `impressions` (None): user_shown NULL, user_clicks the ads acted on.
    """
    if impressions is not None:
        recent = in_window(impressions, as_of=as_of, window_days=window_days)
        return recent.groupBy(*KEY).agg(F.count("*").alias("user_shown"), F.count_if("clicked").alias("user_clicks"))
    recent = in_window(behaviours, as_of=as_of, window_days=window_days)
    return recent.groupBy(*KEY).agg(
        F.lit(None).cast("bigint").alias("user_shown"), F.count_distinct("ad_id").alias("user_clicks")
    )
