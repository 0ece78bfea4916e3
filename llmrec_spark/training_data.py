"""The tables that a model learns from, filled a day at a time: what is there already is left alone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from functools import cached_property

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import sequences, training_examples, training_histories, training_statistics
from llmrec_spark.ad_statistics import in_window
from llmrec_spark.ads import checked_ads, live_ads
from llmrec_spark.candidates import checked_users
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.evaluated_log import EvaluatedLog, once
from llmrec_spark.events import checked_events, midnight, with_consent
from llmrec_spark.impressions import clicked_impressions
from llmrec_spark.quarantine import accepted
from llmrec_spark.runs import code_digest, say
from llmrec_spark.sampled_negatives import draw_ranges
from llmrec_spark.storage import Storage
from llmrec_spark.training_splits import of_training_users, with_folds
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES


def training_set_id(as_of: date, until: date, *, inputs: Mapping[str, str], config: Config) -> str:
    """16 hex digits of what decides the rows: the date, how far labels reach, input versions, config and code."""
    parts = (str(as_of), str(until), sorted(inputs.items()), config.training_digest(), code_digest())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def training_log(inputs: Inputs, config: Config, until: date) -> EvaluatedLog:
    """The accepted log of consenting users before `until`, 00:00 UTC, with users and ads, as scoring checks them."""
    users = (
        once(accepted(checked_users(inputs.tables["users"], has_consent=inputs.has_consent)))
        if "users" in inputs.tables
        else None
    )
    types, searches = list(config.events.weights), config.events.searches
    log = checked_events(inputs.tables["events"], as_of=until, types=types, searches=searches)
    events = accepted(log.where(~F.col("is_later"))).drop("is_later")
    events = with_consent(events, users if inputs.has_consent else None)
    return EvaluatedLog(once(events), users, once(accepted(checked_ads(inputs.tables["ads"]))))


class LogBefore:
    """The log before a day, 00:00 UTC."""

    def __init__(self, known: EvaluatedLog, config: Config, day: date) -> None:
        self.config, self.day, self.ads = config, day, known.ads
        self.has_impressions = bool(config.events.impressions)
        self.events = known.events.where(F.col("event_ts") < midnight(day))

    @cached_property
    def impressions(self) -> DataFrame:
        """With what had been clicked by then."""
        of = self.config.events
        return once(clicked_impressions(self.events, impressions=of.impressions, clicks=of.clicks))

    def behaviours(self) -> DataFrame:
        """As a history may hold them."""
        of = self.config.events
        asked = sequences.queries(self.events, searches=of.searches)
        behaved = sequences.behaviours(self.events, self.ads, asked, weights=of.weights, searches=of.searches)
        return behaved.where("is_known")

    def window(self, rows: DataFrame) -> DataFrame:
        """Rows of the window of statistics whose users may be counted, with fold and inner_fold."""
        recent = in_window(rows, as_of=self.day, window_days=self.config.statistics.window_days)
        return of_training_users(with_folds(recent), self.config.training)


def fill_training_tables(
    storage: Storage, config: Config, inputs: Inputs, *, as_of: date, until: date | None = None
) -> str:
    """Writes the days of a training set that are missing from both tables; returns its id.

    `as_of` is the date the model is trained at: its examples are of the days before. Labels are of the events before
    `until`, by default that date too. A day is one commit in each table, its examples last, so a day that has them is
    whole. The rows of a user lie in one file, those of a list together.
    """
    until = until or as_of
    training_set = training_set_id(as_of, until, inputs=inputs.versions, config=config)
    written = storage.read(TRAINING_EXAMPLES).where(F.col("training_set") == training_set)
    there = {row.run_date for row in written.select("run_date").distinct().collect()}
    if there >= set(config.training.days(as_of)):
        return training_set
    known = training_log(inputs, config, until)
    before_cut = LogBefore(known, config, config.training.cut(as_of))
    for day in days_with_rows(known, config, as_of=as_of):
        if day in there:
            continue
        of_day: dict[str, date | datetime | str] = {"training_set": training_set, "run_date": day}
        histories, examples = training_day(known, before_cut, day=day, as_of=as_of, until=until)
        rows = {}
        for table, made in ((TRAINING_HISTORIES, histories), (TRAINING_EXAMPLES, examples)):
            made = made.withColumns({name: F.lit(value) for name, value in of_day.items()})
            order = [name for name in ("user_id", "list_id", "position", "example_id") if name in made.columns]
            made = made.repartition("user_id").sortWithinPartitions(*of_day, *order)
            rows[table.name] = storage.write_where(table, made, of_day)
        say(f"{TRAINING_EXAMPLES.name:<16} {rows[TRAINING_EXAMPLES.name]:>10,} rows   {day}")
    return training_set


def days_with_rows(known: EvaluatedLog, config: Config, *, as_of: date) -> list[date]:
    """The days of the training set on which anything was shown, or in a log without impressions acted on."""
    kinds = config.events.impressions or config.events.acts
    shown = known.events.where(F.col("event_type").isin(*kinds))
    found = {row.day for row in shown.select(training_histories.day_of("event_ts").alias("day")).distinct().collect()}
    return [day for day in config.training.days(as_of) if str(day) in found]


def training_day(
    known: EvaluatedLog, before_cut: LogBefore, *, day: date, as_of: date, until: date
) -> tuple[DataFrame, DataFrame]:
    """A day of TRAINING_HISTORIES and of TRAINING_EXAMPLES, both without training_set and run_date.

    Reads    `known` as training_log gives it, `before_cut` its part before the days of training end
    What a row says but its labels is of `known` before the day, or before the cut where config.training says so.
    """
    config = before_cut.config
    training = config.training
    before_day = before_cut if before_cut.day == day else LogBefore(known, config, day)
    examples = once(_examples(known, before_day, config, day, as_of, until))
    is_training = F.col("split") == "train"
    of_lists = is_training if training.history == "other_requests" else F.lit(False)
    parts = []
    if training.history == "other_requests" and "train" in training.splits_on(day, as_of):
        parts.append(_other_requests(before_cut, training_histories.wanted_histories(examples.where(of_lists))))
    if training.history == "earlier_days" or training.splits_on(day, as_of) != ["train"]:
        parts.append(_earlier_days(before_day, training_histories.wanted_histories(examples.where(~of_lists))))
    behaviours, shown, users = (_together(tables) for tables in zip(*parts, strict=True))
    histories = training_histories.training_histories(behaviours, shown, sequences=config.sequences)
    counts, means = _ad_counts(before_day, before_cut, day, as_of)
    return histories, training_examples.training_examples(examples, counts, means, users)


def _examples(known: EvaluatedLog, before: LogBefore, config: Config, day: date, as_of: date, until: date) -> DataFrame:
    of, training = config.events, config.training
    if of.impressions:
        labelled = training_examples.shown_ads(known.events, day=day, until=until, types=of, training=training)
    else:
        acted = before.window(before.events).where(F.col("event_type").isin(config.events.acts))
        ranges = draw_ranges(live_ads(known.ads, on=day), acted, exponent=training.negatives_exponent)
        labelled = training_examples.acted_ads(
            known.events,
            once(ranges),
            day=day,
            until=until,
            acts=config.events.acts,
            conversions=of.conversions,
            training=training,
        )
    return training_examples.split_examples(
        labelled, day=day, as_of=as_of, has_impressions=bool(of.impressions), training=training
    )


def _earlier_days(before: LogBefore, wanted: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    """Behaviours and impressions with the history they belong to, and the counts of its user."""
    behaved = training_histories.of_earlier_days(before.behaviours(), wanted)
    shown = training_histories.of_earlier_days(before.impressions, wanted)
    return _with_counts(before, behaved, shown)


def _other_requests(before: LogBefore, wanted: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    lists = before.impressions if before.has_impressions else None
    behaved = training_histories.behaviours_of_other_requests(before.behaviours(), lists, wanted)
    shown = training_histories.impressions_of_other_requests(before.impressions, wanted)
    return _with_counts(before, behaved, shown)


def _with_counts(before: LogBefore, behaved: DataFrame, shown: DataFrame) -> tuple[DataFrame, DataFrame, DataFrame]:
    window = {"as_of": before.day, "window_days": before.config.statistics.window_days}
    if before.has_impressions:
        shown = once(shown)
        return behaved, shown, training_histories.user_counts(behaved, shown, **window)  # type: ignore[arg-type]
    behaved = once(behaved)
    return behaved, shown, training_histories.user_counts(behaved, None, **window)  # type: ignore[arg-type]


def _ad_counts(before_day: LogBefore, before_cut: LogBefore, day: date, as_of: date) -> tuple[DataFrame, DataFrame]:
    """Counts by seen_by and ad, and the means by seen_by, that the examples of a day ask for."""
    training = before_day.config.training
    splits = training.splits_on(day, as_of)
    by_fold = training.statistics == "other_folds"
    views = []
    if by_fold and "train" in splits:
        views.append((before_cut, training_statistics.seen_by_other_folds))
    if not by_fold or splits != ["train"]:
        is_of_all_days = by_fold and training.split == "users"
        views.append((before_cut if is_of_all_days else before_day, training_statistics.seen_by_everyone))
    counts, active = [], []
    for before, seen in views:
        of = before.config.events
        events = before.window(before.events)
        shown = before.window(before.impressions) if before.has_impressions else None
        of_ads = training_statistics.ad_counts(
            events, shown, acts=before.config.events.acts, conversions=of.conversions
        )
        counts.append(seen(of_ads, "ad_id"))
        active.append(seen(training_statistics.active_users(events)))
    together = once(_together(counts))
    users = None if before_day.has_impressions else _together(active)
    return together, training_statistics.mean_rates(together, users, before_day.ads)


def _together(tables: Sequence[DataFrame]) -> DataFrame:
    together = tables[0]
    for table in tables[1:]:
        together = together.unionByName(table)
    return together
