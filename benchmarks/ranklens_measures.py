"""Measures of the lists of a trial, and their 95 % intervals by a paired bootstrap over users."""

from __future__ import annotations

import numpy as np
from ranklens_protocols import Trial, list_sizes

from llmrec_spark.metrics import ranking_metrics

METRICS = ("nDCG", "group AUC", "MRR")
LEVELS = (0.025, 0.975)


def judged(trial: Trial, scores: np.ndarray, k: int) -> np.ndarray:
    """METRICS of each list of a trial, (L, 3): nDCG at k, the others over the whole list."""
    sizes = list_sizes(trial.candidates)
    whole = ranking_metrics(scores, trial.clicked, sizes, k=int(sizes.max(initial=1)))
    at_k = ranking_metrics(scores, trial.clicked, sizes, k=k)
    return np.stack([at_k["ndcg"], whole["group_auc"], whole["mrr"]], axis=1)


def resampled_users(count: int, resamples: int, seed: int) -> np.ndarray:
    """(R, U): how often each resample holds each user; U users drawn with replacement."""
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=resamples)
    return drawn.astype(np.float64)


def with_interval(values: np.ndarray, users: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Mean over lists, lower and upper end of its 95 % interval: values (L, M), users (L,) codes -> (3, M).

    times (R, U) as `resampled_users` gives it: used again for another scorer, or for a difference, it pairs them.
    """
    sums = np.zeros((times.shape[1], values.shape[1]))
    np.add.at(sums, users, values)
    lists = np.bincount(users, minlength=times.shape[1])
    means = (times @ sums) / (times @ lists)[:, None]  # (R, M)
    return np.stack([values.mean(axis=0), *np.quantile(means, LEVELS, axis=0)])
