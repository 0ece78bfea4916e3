"""The evaluation of a day, from the log to `evaluations`: what was shown, what came of it, how well it was ordered."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from llmrec_spark import daily_variety, evaluations, judged_lists
from llmrec_spark.accepted_log import AcceptedLog, accepted_log, once
from llmrec_spark.ad_quality import ad_quality
from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.config import Config
from llmrec_spark.daily_drift import Drift, watch_day
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.daily_off_policy import off_policy
from llmrec_spark.daily_publishing import evaluated_run
from llmrec_spark.errors import DataError
from llmrec_spark.evaluation_tables import AD_QUALITY, EVALUATIONS, RELIABILITY
from llmrec_spark.events import midnight
from llmrec_spark.example_lists import example_lists
from llmrec_spark.metrics import RANKING_METRICS
from llmrec_spark.outcomes import outcomes
from llmrec_spark.reliability import (
    bin_sums,
    exact_auc,
    prediction_counts,
    predictions,
    probability_intervals,
    reliability_table,
    with_other_run,
)
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_STATISTICS, MATCHES, RANKINGS

WITHOUT_K = ("group_auc",)


@dataclass(frozen=True)
class Evaluation:
    """What an evaluated day hands on: the run judged, how far the log reached, what was counted, what moved."""

    run_date: date
    run: Row
    against: Row | None
    through: datetime
    counts: dict[str, int]
    examples: pd.DataFrame  # as `example_lists` gives them
    refused: tuple[tuple[str, str], ...]  # what has no value though its rows are there, and why
    drift: Drift


def evaluate_day(
    storage: Storage, config: Config, inputs: Inputs, run: Row, *, against: str | None = None
) -> Evaluation:
    """Writes every table of EVALUATED of a run (its row of `runs`); `against` names another run of that day.

    Raises DataError where nothing was shown, or there is no such other run whose tables are kept.
    """
    day = run.run_date
    other = None if against is None else evaluated_run(storage, day, against)
    with TemporaryDirectory(prefix=f"llmrec_{run.run_id}_") as scratch:
        known = accepted_log(inputs, config, before=config.evaluation.windows_close(day))
        through = _reached(known.events, inputs, day)
        shown = once(
            outcomes(
                known.events,
                on=[day],
                impressions=config.events.impressions,
                clicks=config.events.clicks,
                conversions=config.events.conversions,
                click_hours=config.evaluation.click_hours,
                conversion_days=config.evaluation.conversion_days,
            ).drop("run_date")
        )
        judged = once(_judged(storage, config, known, shown, run, other, day))
        [counts] = judged.agg(
            F.count("*").alias("ads_judged"),
            F.count_if(~F.col("is_scored")).alias("ads_unscored"),
            F.count_distinct("user_id").alias("users_shown"),
        ).collect()
        if not counts.ads_judged:
            raise DataError(
                f"inputs.events ({inputs.where['events']}): nothing was shown on {day}, so there is nothing to judge. "
                "Load the log of that day, or name the types of impressions in events.impressions."
            )
        slices = once(_slices(config, known, judged, day))
        rows = _ranking(config, judged, slices, other).unionByName(_outcome(config, shown, judged, slices, known.ads))
        rows = rows.unionByName(
            daily_variety.variety_rows(
                storage,
                config,
                run,
                other,
                events=known.events.where(F.col("event_ts") < midnight(day)),
                ads=known.ads,
                judged=judged,
                slices=once(_slices(config, known, daily_variety.lists_of(storage, run, other), day)),
                scratch=Path(scratch),
            )
        )
        sums, auc = _predicted(storage, shown, run, other)
        of_probabilities = probability_intervals(sums, auc, _resampling(config))
        runs = {"score": run} if other is None else {"score": run, other.run_id: other}
        valued, refused = off_policy(storage, config, known.events, shown, runs, day=day)
        without_k = of_probabilities.unionByName(valued).withColumn("k", F.lit(None).cast("int"))
        of_day = {"run_date": day, "run_id": run.run_id, "evaluated_through": through}
        columns = {name: F.lit(value) for name, value in of_day.items()}
        storage.write_where(EVALUATIONS, rows.unionByName(without_k).withColumns(columns), of_day)
        storage.write_where(AD_QUALITY, _ad_quality(config, known, shown, day).withColumns(columns), of_day)
        storage.write_where(RELIABILITY, reliability_table(sums, _resampling(config)).withColumns(columns), of_day)
        of_run = evaluations.ranking_sums(judged, slices, scorers=["score"], k=config.evaluation.k)
        examples = pd.DataFrame(example_lists(of_run, judged).toPandas())
        drift = watch_day(storage, config, run, known.events, known.ads, of_day)
        return Evaluation(day, run, other, through, counts.asDict(), examples, refused, drift)


def _reached(events: DataFrame, inputs: Inputs, day: date) -> datetime:
    """The time of the newest event that the evaluation could use. Raises DataError where the day has not begun."""
    [newest] = events.agg(F.unix_micros(F.max("event_ts")).alias("at")).collect()
    start = datetime.combine(day, time(), UTC)
    if newest.at is None or newest.at / 1e6 < start.timestamp():
        raise DataError(
            f"inputs.events ({inputs.where['events']}): no accepted event of {day} or later. Load what happened that "
            "day before it is evaluated."
        )
    return datetime.fromtimestamp(newest.at // 1_000_000, UTC) + timedelta(microseconds=newest.at % 1_000_000)


def _judged(
    storage: Storage, config: Config, known: AcceptedLog, shown: DataFrame, run: Row, other: Row | None, day: date
) -> DataFrame:
    of_run = F.col("run_id").isNull() | (F.col("run_id") == run.run_id)
    judged = judged_lists.judged_ads(
        shown.withColumn("of_run", of_run),
        _listed(storage, config, run),
        storage.read_run(AD_STATISTICS, run.run_id),
        known.events.where(F.col("event_type").isin(config.events.acts) & (F.col("event_ts") < midnight(day))),
    )
    if other is None:
        return judged
    beside = _listed(storage, config, other).select("user_id", "ad_id", F.col("score").alias(other.run_id))
    return judged.join(beside, on=["user_id", "ad_id"], how="left")


def _listed(storage: Storage, config: Config, run: Row) -> DataFrame:
    """The order of a run: by score of every pair where the run kept them all, else by its lists."""
    lists = storage.read_run(RANKINGS, run.run_id)
    if config.inputs.candidates is None:
        return judged_lists.listed_order(lists)
    pairs = storage.read_run(MATCHES, run.run_id).select("user_id", "ad_id", "score", "match")
    return pairs.join(lists.select("user_id", "ad_id", "source"), on=["user_id", "ad_id"], how="left")


def _slices(config: Config, known: AcceptedLog, judged: DataFrame, day: date) -> DataFrame:
    columns = config.evaluation.user_columns
    users = judged.select("user_id").distinct()
    if columns:
        missing = sorted(set(columns) - set(known.users.columns if known.users is not None else ()))
        if missing:
            raise DataError(f"evaluation.user_columns: inputs.users has no columns {missing}.")
        of_users = known.users.select("user_id", *[F.col(f"`{name}`") for name in columns])  # type: ignore[union-attr]
        users = users.join(of_users, on="user_id", how="left")
    return judged_lists.user_slices(users, judged_lists.met_before(known.events, day), columns=columns)


def _ranking(config: Config, judged: DataFrame, slices: DataFrame, other: Row | None) -> DataFrame:
    of, beside = config.evaluation, () if other is None else (other.run_id,)
    scorers = (*judged_lists.SCORERS, *beside)
    found = intervals(
        evaluations.ranking_sums(judged, slices, scorers=scorers, k=of.k),
        _resampling(config),
        ratios=RANKING_METRICS,
        pairs=[("score", name) for name in scorers[1:]],
    )
    k = F.when(~F.col("metric").isin(*WITHOUT_K), F.lit(of.k))
    return found.withColumn("k", k.cast("int"))


def _ad_quality(config: Config, known: AcceptedLog, shown: DataFrame, day: date) -> DataFrame:
    of_day = (F.col("event_ts") >= midnight(day)) & (F.col("event_ts") < midnight(day + timedelta(days=1)))
    return ad_quality(shown, known.events.where(F.col("event_type").isin(config.events.negatives) & of_day), known.ads)


def _predicted(storage: Storage, shown: DataFrame, run: Row, other: Row | None) -> tuple[DataFrame, DataFrame]:
    """Sums per user and bin, and the AUC over all rows, of what the run predicted and of another run's p_click."""
    predicted = _predictions(storage, shown, run)
    if other is not None:
        predicted = with_other_run(predicted, _predictions(storage, shown, other), other.run_id)
    predicted = once(predicted)
    counts = once(prediction_counts(predicted))
    return once(bin_sums(predicted, counts)), exact_auc(counts)


def _predictions(storage: Storage, shown: DataFrame, run: Row) -> DataFrame:
    return predictions(shown, storage.read_run(RANKINGS, run.run_id), storage.read_run(AD_STATISTICS, run.run_id))


def _resampling(config: Config) -> Resampling:
    return Resampling(config.evaluation.replicates, config.evaluation.seed)


def _outcome(config: Config, shown: DataFrame, judged: DataFrame, slices: DataFrame, ads: DataFrame) -> DataFrame:
    of_run = judged.select("user_id", "ad_id", "source")
    found = intervals(
        evaluations.outcome_sums(shown.join(of_run, on=["user_id", "ad_id"], how="left"), slices, ads),
        _resampling(config),
        ratios=evaluations.OUTCOME_RATIOS,
        totals=evaluations.OUTCOME_TOTALS,
    )
    return found.withColumn("k", F.lit(None).cast("int"))
