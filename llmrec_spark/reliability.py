"""Predicted against observed clicks: log loss, Brier score, AUC over all rows, calibration error, and their bins.

Rows are cut into 300 bins of equal size by prediction; rows of one prediction (to 6 significant digits) share one. Sums
per user and bin are all that the bootstrap needs: the calibration error and the table of bins take 20 of them at once,
and AUC counts rows of one bin as ties in a replicate, while its estimate itself counts every prediction.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.bootstrap import INTERVALS, Resampling, percentiles, resampled_sums
from llmrec_spark.matches import significant
from llmrec_spark.metrics import calibration_error, overall_auc

BINS, PER_BIN = 15, 20  # bins of the table, and of the fine bins in each
PROBABILITY_METRICS = ("log_loss", "brier", "auc", "calibration_error")
TABLE = "scorer string, bin int, predicted double, observed double, low double, high double, n bigint"


def predictions(outcomes: DataFrame, listed: DataFrame, statistics: DataFrame) -> DataFrame:
    """user_id, scorer, predicted, clicked of impressions at the first position, or of all where none is logged.

    outcomes    user_id, ad_id, position, clicked
    listed      user_id, ad_id, log_odds, p_click of the run, unique by user and ad
    statistics  ad_id, rate

    Scorers: rate (of the ad), score (the run's log-odds, read as a probability) and p_click; none where unknown.
    """
    at_first = F.col("position").isNull() | (F.col("position") == 1)
    rows = (
        outcomes.where(at_first)
        .join(listed.select("user_id", "ad_id", "log_odds", "p_click"), on=["user_id", "ad_id"], how="left")
        .join(F.broadcast(statistics.select("ad_id", "rate")), on="ad_id", how="left")
    )
    by_scorer = {"rate": F.col("rate"), "score": 1 / (1 + F.exp(-F.col("log_odds"))), "p_click": F.col("p_click")}
    each = F.explode(F.array(*[F.struct(F.lit(n).alias("scorer"), p.alias("predicted")) for n, p in by_scorer.items()]))
    return (
        rows.select("user_id", "clicked", each.alias("one"))
        .select("user_id", "one.scorer", significant(F.col("one.predicted")).alias("predicted"), "clicked")
        .where(F.col("predicted").isNotNull())
    )


def p_click_of(run_id: str) -> str:
    """The scorer of another run's p_click beside the run that is judged."""
    return f"p_click of {run_id}"


def with_other_run(predicted: DataFrame, of_other: DataFrame, run_id: str) -> DataFrame:
    """Predictions, and the p_click of another run's as a scorer of its own: on the shown ads that are in its lists."""
    p_click = of_other.where("scorer = 'p_click'").withColumn("scorer", F.lit(p_click_of(run_id)))
    return predicted.unionByName(p_click)


def prediction_counts(predicted: DataFrame) -> DataFrame:
    """scorer, predicted, hits, misses, misses_below, bin from 1 to 300: one row per distinct prediction."""
    counts = predicted.groupBy("scorer", "predicted").agg(
        F.count_if("clicked").alias("hits"), F.count_if(~F.col("clicked")).alias("misses")
    )
    below = Window.partitionBy("scorer").orderBy("predicted").rowsBetween(Window.unboundedPreceding, -1)
    every = Window.partitionBy("scorer")
    rows = F.col("hits") + F.col("misses")
    middle = F.coalesce(F.sum(rows).over(below), F.lit(0)) + (rows - 1) / 2  # of the rows that share the prediction
    place = F.floor(middle * (BINS * PER_BIN) / F.sum(rows).over(every)).cast("int") + 1
    return counts.select(
        "scorer",
        "predicted",
        "hits",
        "misses",
        F.coalesce(F.sum("misses").over(below), F.lit(0)).alias("misses_below"),
        place.alias("bin"),
    )


def bin_sums(predicted: DataFrame, counts: DataFrame) -> DataFrame:
    """user_id, slice (the bin), scorer, sums: of prediction, clicks, rows, log loss and squared error."""
    p, clicked = F.col("predicted"), F.col("clicked").cast("double")
    held = F.least(F.greatest(p, F.lit(2.0**-52)), F.lit(1 - 2.0**-52))
    loss = -F.when(F.col("clicked"), F.ln(held)).otherwise(F.log1p(-held))
    terms = [p, clicked, F.lit(1.0), loss, (p - clicked) * (p - clicked)]
    return (
        predicted.join(counts.select("scorer", "predicted", "bin"), on=["scorer", "predicted"], how="inner")
        .groupBy("user_id", F.col("bin").cast("string").alias("slice"), "scorer")
        .agg(F.array(*[F.sum(term) for term in terms]).alias("sums"))
    )


def exact_auc(counts: DataFrame) -> DataFrame:
    """scorer, auc: over all rows, every prediction counted; NULL where there is no pair."""
    right = F.sum(F.col("hits") * (F.col("misses_below") + F.col("misses") / 2))
    return counts.groupBy("scorer").agg(F.try_divide(right, F.sum("hits") * F.sum("misses")).alias("auc"))


def probability_intervals(sums: DataFrame, auc: DataFrame, resampling: Resampling) -> DataFrame:
    """slice (all), scorer, metric, value, low, high, n (rows): PROBABILITY_METRICS; sums as bin_sums, auc as exact_auc.

    One table that `reliability_table` reads too: materialise what resampled_sums gives.
    """

    def finish(rows: pd.DataFrame) -> pd.DataFrame:
        binned = _by_bin(rows)  # (bins, 1 + B, 5)
        n, loss, squares = np.moveaxis(binned.sum(axis=0)[:, 2:], -1, 0)
        with np.errstate(invalid="ignore", divide="ignore"):
            coarse = _coarse(binned)
            by_bin = overall_auc(binned[..., 1].T, (binned[..., 2] - binned[..., 1]).T)
            error = calibration_error(coarse[..., 0].T, coarse[..., 1].T, coarse[..., 2].T)
            values = np.stack([loss / n, squares / n, by_bin, error], axis=1)  # (1 + B, M)
        exact = rows["auc"].iloc[0]
        values[1:, 2] += (np.nan if exact is None else exact) - values[0, 2]
        values[0, 2] = np.nan if exact is None else exact
        low, high = percentiles(values[1:])
        ends = {"value": values[0], "low": low, "high": high}
        found = {name: [float(f"{one:.9g}") for one in column] for name, column in ends.items()}
        named = {"slice": "all", "scorer": rows["scorer"].iloc[0], "metric": list(PROBABILITY_METRICS)}
        return pd.DataFrame({**named, **found, "n": int(n[0])})

    resampled = resampled_sums(sums, resampling).join(auc, on="scorer", how="left")
    found = resampled.groupBy("scorer").applyInPandas(finish, INTERVALS)
    return _without_nan(found, ("value", "low", "high"))


def reliability_table(sums: DataFrame, resampling: Resampling) -> DataFrame:
    """scorer, bin from 1 to 15, predicted, observed, low, high, n (rows): the means of each bin that has rows."""

    def finish(rows: pd.DataFrame) -> pd.DataFrame:
        coarse = _coarse(_by_bin(rows))  # (15, 1 + B, 5)
        with np.errstate(invalid="ignore", divide="ignore"):
            means = coarse[..., :2] / coarse[..., 2:3]
        low, high = percentiles(means[:, 1:, 1].T)
        table = pd.DataFrame({"bin": np.arange(1, BINS + 1, dtype=np.int32), "n": coarse[:, 0, 2].astype(np.int64)})
        ends = {"predicted": means[:, 0, 0], "observed": means[:, 0, 1], "low": low, "high": high}
        found = {name: [float(f"{one:.9g}") for one in column] for name, column in ends.items()}
        return table.assign(scorer=rows["scorer"].iloc[0], **found).query("n > 0")

    resampled = resampled_sums(sums, resampling)
    return _without_nan(resampled.groupBy("scorer").applyInPandas(finish, TABLE), ("low", "high"))


def _by_bin(rows: pd.DataFrame) -> np.ndarray:
    """The partial sums of a scorer -> (300, 1 + B, 5)."""
    parts = np.stack([np.frombuffer(one).reshape(-1, 5) for one in rows["sums"]])
    binned = np.zeros((BINS * PER_BIN, *parts.shape[1:]))
    np.add.at(binned, rows["slice"].astype(int).to_numpy() - 1, parts)
    return binned


def _coarse(binned: np.ndarray) -> np.ndarray:
    """(300, ...) -> (15, ...), 20 bins added up."""
    return np.asarray(binned.reshape(BINS, PER_BIN, *binned.shape[1:]).sum(axis=1))


def _without_nan(rows: DataFrame, names: Sequence[str]) -> DataFrame:
    return rows.withColumns({name: F.nanvl(name, F.lit(None).cast("double")) for name in names})
