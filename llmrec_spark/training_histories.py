"""What was known of the user of each example: behaviours, skips and counts, without what the example's list led to.

The histories of scored users, and of all users unless conf says `history: other_requests`, are of the events before
their day. In the others every other list of the user before the cut may stand, later ones too.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ad_statistics import in_window
from llmrec_spark.config import SequencesConfig
from llmrec_spark.events import day_of, midnight
from llmrec_spark.impressions import was_clicked
from llmrec_spark.sequences import behaviour_sequences

KEY = ("run_date", "user_id", "history_id")


def list_of(*, has_impressions: bool) -> Column:
    """The list of a row with request_id and event_ts: its request, or the day where it or the log has none."""
    day = day_of("event_ts").cast("string")
    return F.coalesce("request_id", day) if has_impressions else day


def wanted_histories(examples: DataFrame) -> DataFrame:
    """One row per history that examples name: KEY, split, known_before, started (its list's first time), list_ads."""
    return examples.groupBy(*KEY).agg(
        F.min("split").alias("split"),  # a history has one, and one known_before
        F.min("known_before").alias("known_before"),
        F.min("event_ts").alias("started"),
        F.collect_set("ad_id").alias("list_ads"),
    )


def behaviours_before(behaviours: DataFrame, wanted: DataFrame) -> DataFrame:
    """`behaviours` once for each `wanted` history of their user whose known_before they precede, with its columns."""
    return behaviours.join(wanted, on="user_id", how="inner").where(F.col("event_ts") < _known_until())


def impressions_before(impressions: DataFrame, wanted: DataFrame) -> DataFrame:
    """`impressions`, as impressions_over_time gives them, likewise, and whether they had been clicked by then."""
    paired = impressions.join(wanted, on="user_id", how="inner").where(F.col("event_ts") < _known_until())
    return paired.withColumn("clicked", was_clicked(_known_until()))


def _known_until() -> Column:
    return midnight(F.col("known_before"))


def with_lists(behaviours: DataFrame, impressions: DataFrame) -> DataFrame:
    """`behaviours` with listed_ts: when the list that each names first showed its ad, NULL where no list did."""
    key = ["user_id", "request_id", "ad_id"]
    lists = impressions.where(F.col("request_id").isNotNull()).groupBy(*key).agg(F.min("event_ts").alias("listed_ts"))
    return behaviours.join(lists, on=key, how="left")


def behaviours_of_other_requests(behaviours: DataFrame, *, has_impressions: bool) -> DataFrame:
    """Those of behaviours_before, with listed_ts, that a history of other requests may hold; all of other histories.

    What belongs to the history's own list is left out. So is what happened to one of that list's ads from its first
    time on, unless the event names another list with that ad: it may be what the list led to (a click, a purchase).
    """
    is_own = list_of(has_impressions=has_impressions) == F.col("history_id")
    is_on_its_ads = F.coalesce(F.array_contains("list_ads", F.col("ad_id")), F.lit(False))  # a search is on no ad
    names_list = F.coalesce(F.col("listed_ts") < _known_until(), F.lit(False))
    is_answer = is_on_its_ads & (F.col("event_ts") >= F.col("started")) & ~names_list
    return behaviours.where(~((F.col("split") == "train") & (is_own | is_answer)))


def impressions_of_other_requests(impressions: DataFrame) -> DataFrame:
    """Those of impressions_before that a history of other requests may hold: all lists but its own."""
    is_own = list_of(has_impressions=True) == F.col("history_id")
    return impressions.where(~((F.col("split") == "train") & is_own))


def training_histories(behaviours: DataFrame, impressions: DataFrame, *, sequences: SequencesConfig) -> DataFrame:
    """The columns of TRAINING_HISTORIES but training_set, of rows that have those of KEY."""
    return behaviour_sequences(
        behaviours,
        impressions,
        max_behaviours=sequences.max_behaviours,
        max_skips=sequences.max_skips,
        by=KEY,
    )


def user_counts(behaviours: DataFrame, impressions: DataFrame | None, *, window_days: int | None) -> DataFrame:
    """One row per history with anything in the window before its known_before: KEY, user_shown, user_clicks.

    Reads rows that have the columns of wanted_histories. Without `impressions` (None): user_shown NULL, user_clicks
    the ads acted on.
    """
    known_before = F.col("known_before")
    if impressions is not None:
        recent = in_window(impressions, as_of=known_before, window_days=window_days)
        return recent.groupBy(*KEY).agg(F.count("*").alias("user_shown"), F.count_if("clicked").alias("user_clicks"))
    recent = in_window(behaviours, as_of=known_before, window_days=window_days)
    return recent.groupBy(*KEY).agg(
        F.lit(None).cast("bigint").alias("user_shown"), F.count_distinct("ad_id").alias("user_clicks")
    )
