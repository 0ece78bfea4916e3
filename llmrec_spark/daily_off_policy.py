"""What a run's lists, and those of a run beside it, would have earned from the people of a day, as its log says."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import reduce
from math import isfinite

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from llmrec_spark.accepted_log import once
from llmrec_spark.ad_statistics import in_window
from llmrec_spark.bootstrap import INTERVALS, Resampling, intervals
from llmrec_spark.config import Config
from llmrec_spark.events import midnight
from llmrec_spark.impressions import clicked_impressions
from llmrec_spark.off_policy import (
    LIFT,
    MEAN_WEIGHT,
    RATIOS,
    VALUES,
    list_weights,
    place_rates,
    policy_sums,
    weight_spread,
)
from llmrec_spark.policy_values import WeightFigures, refusal
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_STATISTICS, RANKINGS

Estimate = tuple[float | None, float | None, float | None, int]  # value, low, high, n
Refused = tuple[tuple[str, str], ...]  # what, why
NOTHING = (None, None, None, 0)


def off_policy(
    storage: Storage,
    config: Config,
    events: DataFrame,
    shown: DataFrame,
    runs: Mapping[str, Row],
    *,
    day: date,
) -> tuple[DataFrame, Refused]:
    """slice, scorer, metric, value, low, high, n of the lists of `runs` (scorer -> run), and what is refused and why.

    events  the accepted log; shown: outcomes of the day

    A refused value is NULL, its diagnostics stay. A log without propensities gives no rows, and costs one count.
    """
    [counts] = shown.agg(F.count("propensity").alias("known")).collect()
    if not counts.known:
        nothing = storage.spark.createDataFrame([], INTERVALS)
        return nothing, (("off-policy values", "The log has no propensities."),)
    until = events.where(F.col("event_ts") < midnight(day))
    before = in_window(until, as_of=day, window_days=config.statistics.window_days)
    clicked = clicked_impressions(before, impressions=config.events.impressions, clicks=config.events.clicks)
    places = once(place_rates(clicked, prior_shown=config.statistics.prior_shown))
    of_runs = [_weights(storage, shown, places, scorer, run) for scorer, run in runs.items()]
    rows, refused = _judged(config, once(reduce(DataFrame.unionByName, of_runs)), list(runs))
    return storage.spark.createDataFrame(rows, INTERVALS), refused


def _weights(storage: Storage, shown: DataFrame, places: DataFrame, scorer: str, run: Row) -> DataFrame:
    lists, rates = storage.read_run(RANKINGS, run.run_id), storage.read_run(AD_STATISTICS, run.run_id)
    return list_weights(shown, lists, rates, places, scorer=scorer)


def _judged(config: Config, weighted: DataFrame, scorers: list[str]) -> tuple[list[tuple[object, ...]], Refused]:
    """Rows of INTERVALS, values only where nothing stands against them; a dozen numbers a scorer, on the driver."""
    of = config.evaluation
    spread = {row.scorer: row.asDict() for row in weight_spread(weighted).drop("slice").collect()}
    pairs = [(scorers[0], other) for other in scorers[1:]]
    sums = policy_sums(weighted, clip=of.off_policy.clip)
    found = intervals(sums, Resampling(of.replicates, of.seed), ratios=RATIOS, pairs=pairs).collect()
    by: dict[tuple[str, str], Estimate] = {(r.scorer, r.metric): (r.value, r.low, r.high, r.n) for r in found}
    rows: list[tuple[object, ...]] = []
    refused: dict[str, str] = {}
    for scorer in scorers:
        figures = WeightFigures(**{name: value for name, value in spread[scorer].items() if name != "scorer"})
        _, low, high, _ = by.get((scorer, MEAN_WEIGHT), NOTHING)
        why = refusal(figures, (low or 0.0, high or 0.0), of.off_policy)
        if why is not None:
            refused[scorer] = why
        for metric in RATIOS:
            estimate = by.get((scorer, metric), NOTHING)
            withheld = why is not None and metric in (*VALUES, LIFT)
            rows.append(("all", scorer, metric, *((None, None, None, estimate[3]) if withheld else estimate)))
        rows += [("all", scorer, metric, value, None, None, figures.used) for metric, value in _diagnostics(figures)]
    for one, other in pairs:
        for metric in VALUES:
            estimate = by.get((f"{one} - {other}", metric), NOTHING)
            withheld = one in refused or other in refused
            estimate = (None, None, None, estimate[3]) if withheld else estimate
            rows.append(("all", f"{one} - {other}", metric, *estimate))
    return rows, tuple((f"off-policy value of {scorer}", why) for scorer, why in refused.items())


def _diagnostics(figures: WeightFigures) -> list[tuple[str, float | None]]:
    """What is told of the weights beside the values: name, number; NULL where there is nothing to tell it of."""
    told = {
        "effective_sample": figures.effective_sample,
        "effective_clicks": figures.effective_clicks,
        "largest_weight": figures.largest,
        "top_share": figures.top_share,
        "support": figures.support,
    }
    return [(f"off_policy_{name}", float(f"{value:.9g}") if isfinite(value) else None) for name, value in told.items()]
