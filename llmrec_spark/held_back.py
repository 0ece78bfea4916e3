"""How well scorers order the lists that were held back, and how far apart they are: on arrays, people resampled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from llmrec_spark.bootstrap import percentiles, poisson_table, user_weights
from llmrec_spark.metrics import calibration_error, log_loss, ranking_metrics

METRICS = ("ndcg", "group_auc", "mrr")
BINS = 15


class Estimate(NamedTuple):
    """A mean over lists, with its 95 % interval over people."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:+.4f} [{self.low:+.4f}, {self.high:+.4f}]"


class Judgement(NamedTuple):
    """L lists of U users."""

    lists: int
    users: int
    values: Mapping[str, Mapping[str, Estimate]]  # by scorer and metric
    differences: Mapping[tuple[str, str], Mapping[str, Estimate]]  # the first less the second


def judge(
    scores: Mapping[str, np.ndarray],
    clicked: np.ndarray,
    lists: np.ndarray,
    users: Sequence[str] | np.ndarray,
    *,
    pairs: Sequence[tuple[str, str]],
    k: int,
    replicates: int,
    seed: int,
) -> Judgement:
    """Every scorer on the lists with a click and without one: scores, clicked, lists (ascending), users, (n,) each."""
    _, number, sizes = np.unique(lists, return_inverse=True, return_counts=True)
    starts = np.cumsum(sizes) - sizes
    hits = np.bincount(number, clicked)
    mixed = (hits > 0) & (hits < sizes)
    person, names = pd.factorize(np.asarray(users, dtype=object)[starts][mixed])
    hashes = pd.util.hash_array(np.asarray([f"{seed}\x1f{name}" for name in names], dtype=object))
    weights = user_weights(hashes, replicates, poisson_table())  # (1 + B, U)
    found, replicated = {}, {}
    for name, of_scorer in scores.items():
        metrics = ranking_metrics(of_scorer, clicked, sizes, k=k)
        per_list = np.stack([metrics[one][mixed] for one in METRICS], axis=1)  # (L, M)
        sums = np.stack([np.bincount(person, column, len(names)) for column in per_list.T], axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            replicated[name] = (weights @ sums) / (weights @ np.bincount(person, minlength=len(names)))[:, None]
        found[name] = _estimates(replicated[name])
    differences = {(one, other): _estimates(replicated[one] - replicated[other]) for one, other in pairs}
    return Judgement(int(mixed.sum()), len(names), found, differences)


def _estimates(replicated: np.ndarray) -> dict[str, Estimate]:
    """(1 + B, M) -> an estimate of each metric."""
    low, high = percentiles(replicated[1:])
    return {
        name: Estimate(float(value), float(at), float(to))
        for name, value, at, to in zip(METRICS, replicated[0], low, high, strict=True)
    }


class Calibration(NamedTuple):
    """How far probabilities are from what happened, over n rows."""

    rows: int
    observed: float  # mean
    predicted: float  # mean
    error: float  # over BINS bins of equal size
    log_loss: float  # mean
    points: np.ndarray  # (bins, 2) mean predicted and mean observed of each bin


def calibration(probability: np.ndarray, happened: np.ndarray) -> Calibration:
    """Of probabilities (n,) that something happened (n,) bool; those that are NaN are left out."""
    said = ~np.isnan(probability)
    probability, happened = probability[said], happened[said]
    if not len(probability):
        unknown = float("nan")
        return Calibration(0, unknown, unknown, unknown, unknown, np.zeros((0, 2)))
    order = np.argsort(probability, kind="stable")
    parts = [one for one in np.array_split(order, BINS) if len(one)]
    sums = np.array([(probability[one].sum(), happened[one].sum(), len(one)) for one in parts], dtype=np.float64)
    return Calibration(
        rows=len(probability),
        observed=float(happened.mean()),
        predicted=float(probability.mean()),
        error=float(calibration_error(*sums.T)),
        log_loss=float(log_loss(probability, happened).mean()),
        points=sums[:, :2] / sums[:, 2:],
    )
