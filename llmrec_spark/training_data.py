"""The tables that a model learns from, filled some days at a time: what is there already is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from functools import cached_property, reduce

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import ad_neighbours, sequences, training_examples, training_histories, training_statistics
from llmrec_spark.accepted_log import AcceptedLog, accepted_log, once
from llmrec_spark.ads import live_ads
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.events import day_of, midnight
from llmrec_spark.impressions import impressions_over_time, was_clicked
from llmrec_spark.runs import code_digest, say
from llmrec_spark.sampled_negatives import draw_ranges
from llmrec_spark.storage import Storage
from llmrec_spark.training_splits import of_training_users, with_folds
from llmrec_spark.training_statistics import seen
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES

DAYS_TOGETHER = 8  # in one plan, whose making costs as much as that of one day; all of them are on the disks at once
ORDER = ("training_set", "run_date", "user_id", "list_id", "position", "example_id")


def training_set_id(as_of: date, until: date, *, inputs: Mapping[str, str], config: Config) -> str:
    """16 hex digits of what decides the rows: the date, how far labels reach, input versions, config and code."""
    parts = (str(as_of), str(until), sorted(inputs.items()), config.training_digest(), code_digest())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class TrainingLog:
    """The log that a training set is made of; what many days read of it is computed once."""

    def __init__(self, known: AcceptedLog, config: Config) -> None:
        self.events, self.ads, self.config = known.events, known.ads, config

    @cached_property
    def impressions(self) -> DataFrame:
        """With what had been clicked by any time."""
        of = self.config.events
        return once(impressions_over_time(self.events, impressions=of.impressions, clicks=of.clicks))

    @cached_property
    def behaviours(self) -> DataFrame:
        """As a history may hold them, and with `history: other_requests` with the lists that they name."""
        of = self.config.events
        asked = sequences.queries(self.events, searches=of.searches)
        behaved = sequences.behaviours(self.events, self.ads, asked, weights=of.weights, searches=of.searches)
        behaved = behaved.where("is_known")
        if self.config.training.history == "other_requests":
            behaved = training_histories.with_lists(behaved, self.impressions)
        return once(behaved)

    def counted(self, rows: DataFrame, days: Sequence[date]) -> DataFrame:
        """Rows of users who may be counted, once for each window of statistics before one of `days`, with folds."""
        counted = of_training_users(with_folds(rows), self.config.training)
        window_days = self.config.statistics.window_days
        return training_statistics.before_each(counted, days, window_days=window_days)


def fill_training_tables(
    storage: Storage, config: Config, inputs: Inputs, *, as_of: date, until: date | None = None
) -> str:
    """Writes the days of a training set that are missing from both tables; returns its id.

    `as_of` is the date the model is trained at: its examples are of the days before. Labels are of the events before
    `until`, by default that date too. Days are written DAYS_TOGETHER in one commit in each table, examples last, so a
    day that has them is whole. The rows of a user and day lie in one file, those of a list together.
    """
    until = until or as_of
    training_set = training_set_id(as_of, until, inputs=inputs.versions, config=config)
    written = storage.read(TRAINING_EXAMPLES).where(F.col("training_set") == training_set)
    there = {row.run_date for row in written.select("run_date").distinct().collect()}
    if there >= set(config.training.days(as_of)):
        return training_set
    known = accepted_log(inputs, config, before=until)
    log = TrainingLog(known, config)
    missing = [day for day in days_with_rows(known, config, as_of=as_of) if day not in there]
    for first in range(0, len(missing), DAYS_TOGETHER):
        days = missing[first : first + DAYS_TOGETHER]
        histories, examples = training_days(log, days=days, as_of=as_of, until=until)
        for table, made in ((TRAINING_HISTORIES, histories), (TRAINING_EXAMPLES, examples)):
            made = made.withColumn("training_set", F.lit(training_set))
            order = [name for name in ORDER if name in made.columns]
            made = made.repartition("user_id").sortWithinPartitions(*order)
            rows = storage.write_where(table, made, {"training_set": training_set, "run_date": days})
        say(f"{TRAINING_EXAMPLES.name:<16} {rows:>10,} rows   {days[0]} to {days[-1]}")
    return training_set


def forget_old_examples(storage: Storage, config: Config, *, as_of: date) -> None:
    """Deletes the days of training sets that lie more than tables.keep_days before those of a training at `as_of`."""
    first = min(config.training.days(as_of)) - timedelta(days=config.tables.keep_days)
    for table in (TRAINING_EXAMPLES, TRAINING_HISTORIES):  # examples first: a day that has them is whole
        storage.forget_days(table, before=first)


def neighbours_before(inputs: Inputs, config: Config, day: date, *, by: str) -> DataFrame:
    """AD_NEIGHBOURS, without run_id, of the histories before `day` 00:00 UTC of users who may be counted."""
    known, of = accepted_log(inputs, config, before=day), config.events
    asked = sequences.queries(known.events, searches=of.searches)
    behaved = sequences.behaviours(known.events, known.ads, asked, weights=of.weights, searches=of.searches)
    counted = of_training_users(with_folds(behaved.where("is_known")), config.training)
    one = F.struct("event_ts", "event_id", "ad_id")  # its order is that of a history
    newest = counted.groupBy("user_id").agg(F.max_by(one, one, config.sequences.max_behaviours).alias("newest"))
    return ad_neighbours.ad_neighbours(newest.select("user_id", F.col("newest.ad_id").alias("ad_ids")), by=by)


def days_with_rows(known: AcceptedLog, config: Config, *, as_of: date) -> list[date]:
    """The days of the training set on which anything was shown, or in a log without impressions acted on."""
    kinds = config.events.impressions or config.events.acts
    shown = known.events.where(F.col("event_type").isin(*kinds))
    found = {row.day for row in shown.select(day_of("event_ts").alias("day")).distinct().collect()}
    return [day for day in config.training.days(as_of) if day in found]


def training_days(log: TrainingLog, *, days: Sequence[date], as_of: date, until: date) -> tuple[DataFrame, DataFrame]:
    """Some days of TRAINING_HISTORIES and of TRAINING_EXAMPLES, both without training_set.

    What a row says but its labels is of the log before its day, or before the days of training end where
    config.training says so: the rows of a day are the same whichever days are made with it.
    """
    config, training = log.config, log.config.training
    has_impressions, window_days = bool(config.events.impressions), config.statistics.window_days
    examples = once(_examples(log, days, as_of, until))
    wanted = once(training_histories.wanted_histories(examples))
    behaved = training_histories.behaviours_before(log.behaviours, wanted)
    shown = training_histories.impressions_before(log.impressions, wanted)
    if training.history == "other_requests":
        behaved = training_histories.behaviours_of_other_requests(behaved, has_impressions=has_impressions)
        shown = training_histories.impressions_of_other_requests(shown)
    histories = training_histories.training_histories(behaved, shown, sequences=config.sequences)
    users = training_histories.user_counts(behaved, shown if has_impressions else None, window_days=window_days)
    counted = training_examples.counted_days(days, as_of=as_of, training=training)
    counts, means = _ad_counts(log, counted)
    return histories, training_examples.training_examples(examples, counts, means, users)


def _examples(log: TrainingLog, days: Sequence[date], as_of: date, until: date) -> DataFrame:
    of, training = log.config.events, log.config.training
    if of.impressions:
        labelled = training_examples.shown_ads(log.events, days=days, until=until, types=of, training=training)
    else:
        labelled = reduce(DataFrame.unionByName, [_acted_ads(log, day, until) for day in days])
    return training_examples.split_examples(
        labelled, as_of=as_of, has_impressions=bool(of.impressions), training=training
    )


def _acted_ads(log: TrainingLog, day: date, until: date) -> DataFrame:
    of, training = log.config.events, log.config.training
    acted = log.counted(log.events.where(F.col("event_type").isin(of.acts)), [day])
    ranges = draw_ranges(live_ads(log.ads, on=day), acted, exponent=training.negatives_exponent)
    return training_examples.acted_ads(
        log.events, once(ranges), day=day, until=until, acts=of.acts, conversions=of.conversions, training=training
    )


def _ad_counts(log: TrainingLog, days: Sequence[date]) -> tuple[DataFrame, DataFrame]:
    """Counts by day they are before, seen_by and ad, and the means by day and seen_by."""
    of, by_other_folds = log.config.events, log.config.training.statistics == "other_folds"
    events, shown, active = log.counted(log.events, days), None, None
    if of.impressions:
        clicked = was_clicked(midnight(F.col("counted_before")))
        shown = log.counted(log.impressions, days).withColumn("clicked", clicked)
    else:
        active = seen(training_statistics.active_users(events), by_other_folds=by_other_folds)
    of_ads = training_statistics.ad_counts(events, shown, acts=of.acts, conversions=of.conversions)
    counts = once(seen(of_ads, "ad_id", by_other_folds=by_other_folds))
    return counts, training_statistics.mean_rates(counts, active, log.ads)
