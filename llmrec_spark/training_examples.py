"""One row per shown ad: what came of it, in which split it is, and what was known when its day began.

In a log without impressions the rows are the ads that users acted on, and ads drawn beside each of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ad_statistics import RATE_BOUNDS
from llmrec_spark.config import EventsConfig
from llmrec_spark.events import is_over, midnight
from llmrec_spark.outcomes import converted_acts, first_acts, outcomes
from llmrec_spark.sampled_negatives import drawn_ads
from llmrec_spark.training_config import TrainingConfig
from llmrec_spark.training_histories import KEY
from llmrec_spark.training_splits import with_split
from llmrec_spark.training_statistics import EVERYONE, SEEN
from llmrec_spark.training_tables import TRAINING_EXAMPLES

LABELLED = (
    "run_date",
    "example_id",
    "user_id",
    "request_id",
    "list_id",
    "ad_id",
    "event_ts",
    "position",
    "propensity",
    "clicked",
    "converted",
    "log_sampling_rate",
)


def shown_ads(
    events: DataFrame, *, days: Sequence[date], until: date, types: EventsConfig, training: TrainingConfig
) -> DataFrame:
    """One row per impression of `days`: the columns of LABELLED. Labels are of the events before `until`, 00:00 UTC.

    `converted` is NULL while the windows of clicks and conversions are open at `until`, whatever happened so far: else
    conversions that come early, or ads without a click, would be over-represented.
    """
    found = outcomes(
        events.where(F.col("event_ts") < midnight(until)),
        on=days,
        impressions=types.impressions,
        clicks=types.clicks,
        conversions=types.conversions,
        click_hours=training.click_hours,
        conversion_days=training.conversion_days,
    )
    hours = training.click_hours + 24.0 * training.conversion_days
    return found.select(
        "run_date",
        F.col("event_id").alias("example_id"),
        "user_id",
        "request_id",
        F.coalesce("request_id", F.col("run_date").cast("string")).alias("list_id"),
        "ad_id",
        "event_ts",
        "position",
        "propensity",
        "clicked",
        F.when(is_over(hours, until), F.col("converted")).alias("converted"),
        F.lit(None).cast("double").alias("log_sampling_rate"),
    )


def acted_ads(
    events: DataFrame,
    ranges: DataFrame,
    *,
    day: date,
    until: date,
    acts: Sequence[str],
    conversions: Sequence[str],
    training: TrainingConfig,
) -> DataFrame:
    """One row per ad of `ranges` that a user acted on that day, and the ads drawn beside it: the columns of LABELLED.

    Reads ranges as draw_ranges gives them. clicked is true of what was acted on; converted where a conversion of that
    user and ad follows the first act of the day within training.conversion_days.
    """
    is_of_day = (F.col("event_ts") >= midnight(day)) & (F.col("event_ts") < midnight(day + timedelta(days=1)))
    of_day = events.where(is_of_day).join(ranges.select("ad_id"), on="ad_id", how="left_semi")
    positives = first_acts(of_day, acts=acts).withColumnRenamed("event_id", "example_id")
    drawn = drawn_ads(positives, ranges, per_positive=training.negatives_per_positive, seed=training.seed).join(
        positives.select("example_id", "event_ts"), on="example_id", how="inner"
    )
    converted = converted_acts(
        positives.withColumnRenamed("example_id", "event_id"),
        events.where(F.col("event_ts") < midnight(until)),
        conversions=conversions,
        days=training.conversion_days,
    ).withColumnRenamed("event_id", "example_id")
    is_known = is_over(24.0 * training.conversion_days, until)
    labelled = positives.join(converted.withColumn("was", F.lit(True)), on="example_id", how="left").select(
        "example_id",
        F.col("example_id").alias("list_id"),
        "user_id",
        "ad_id",
        "event_ts",
        F.lit(True).alias("clicked"),
        F.when(is_known, F.col("was").isNotNull()).alias("converted"),
    )
    others = drawn.select(
        F.concat_ws("~", "example_id", F.col("number").cast("string")).alias("example_id"),
        F.col("example_id").alias("list_id"),
        "user_id",
        "ad_id",
        "event_ts",
        F.lit(False).alias("clicked"),
        F.when(is_known, F.lit(False)).alias("converted"),
    )
    unlogged = {"request_id": "string", "position": "int", "propensity": "double"}
    rates = ranges.select("ad_id", "log_sampling_rate")
    return (
        labelled.unionByName(others)
        .join(rates, on="ad_id", how="inner")
        .withColumns({name: F.lit(None).cast(kind) for name, kind in unlogged.items()})
        .withColumn("run_date", F.lit(day))
        .select(*LABELLED)
    )


def split_examples(labelled: DataFrame, *, as_of: date, has_impressions: bool, training: TrainingConfig) -> DataFrame:
    """`labelled` rows of users who have a split that day, with split, fold, inner_fold and what they are to know.

    history_id is the day, or with `history: other_requests` the list where the row trains, and known_before the day
    before which it happened. seen_by says over whom the counts of its ad are taken: EVERYONE, or the inner fold whose
    own users they leave out; counted_before the day before which. Such a day is that of the row or the cut.
    """
    day, cut = F.col("run_date"), F.lit(training.cut(as_of))
    of_day = day.cast("string")
    own_list = F.col("list_id") if has_impressions else of_day
    is_training = F.col("split") == "train"
    known = {"history_id": of_day, "known_before": day}
    counted = {"seen_by": F.lit(EVERYONE), "counted_before": day}
    if training.history == "other_requests":
        known["history_id"] = F.when(is_training, own_list).otherwise(of_day)
        known["known_before"] = F.when(is_training, cut).otherwise(day)
    if training.statistics == "other_folds":
        counted["seen_by"] = F.when(is_training, F.col("inner_fold")).otherwise(F.lit(EVERYONE))
        counted["counted_before"] = cut if training.split == "users" else F.when(is_training, cut).otherwise(day)
    return with_split(labelled, as_of=as_of, training=training).withColumns(known | counted)


def counted_days(days: Sequence[date], *, as_of: date, training: TrainingConfig) -> list[date]:
    """Every counted_before that split_examples gives rows of `days`."""
    if training.statistics == "earlier_days":
        return list(days)
    if training.split == "users":
        return [training.cut(as_of)]
    return sorted({max(day, training.cut(as_of)) for day in days})  # train: the cut


def training_examples(examples: DataFrame, counts: DataFrame, means: DataFrame, users: DataFrame) -> DataFrame:
    """The columns of TRAINING_EXAMPLES but training_set.

    Reads    examples as split_examples gives them; counts: one row per counted_before, seen_by and ad_id; means: one
             row per counted_before and seen_by; users: one row per KEY, as user_counts gives them
    An ad or user without counts has 0, or what the log's active users make of it.
    """
    none = F.lit(0).cast("bigint")
    columns = [column.name for column in TRAINING_EXAMPLES.columns if column.name != "training_set"]
    has_impressions = F.col("log_sampling_rate").isNull()
    shown = F.when(has_impressions, F.coalesce("shown", none)).otherwise(F.col("unmet_shown"))
    return (
        examples.join(counts, on=[*SEEN, "ad_id"], how="left")
        .join(F.broadcast(means), on=list(SEEN), how="left")
        .join(users, on=list(KEY), how="left")
        .withColumns(
            {
                "ad_shown": F.coalesce(shown, none).cast("bigint"),
                "ad_clicks": F.coalesce("clicks", none),
                "ad_conversions": F.coalesce("conversions", none),
                "mean_rate": F.coalesce("mean_rate", F.lit(RATE_BOUNDS[0])),
                "user_shown": F.when(has_impressions, F.coalesce("user_shown", none)),
                "user_clicks": F.coalesce("user_clicks", none),
            }
        )
        .select(*columns)
    )
