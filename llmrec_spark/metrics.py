"""Ranking metrics on arrays, each formula once. Relevance is binary; ties count as the mean over their orders."""

from __future__ import annotations

import numpy as np


def ndcg_at_k(scores: np.ndarray, relevant: np.ndarray, k: int) -> float:
    """nDCG@k of one list, gain 1 and discount 1 / log2(rank + 1), (n,) scores and bool labels; NaN without a label.

    Tied items share the mean discount of the ranks they occupy (McSherry and Najork, 2008), so order of rows is moot.
    NaN scores rank last, tied with each other.
    """
    n, hits = len(scores), int(relevant.sum())
    if not hits:
        return float("nan")
    discount = np.where(np.arange(n) < k, 1.0 / np.log2(np.arange(n) + 2.0), 0.0)
    gain = _mean_per_tie(scores, discount)[relevant].sum()
    return float(gain / discount[:hits].sum())


def auc(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Share of (clicked, unclicked) pairs in the right order, ties half; NaN without a pair. NaN scores rank last."""
    n, hits = len(scores), int(relevant.sum())
    if hits in (0, n):
        return float("nan")
    rank = _mean_per_tie(scores, np.arange(n, dtype=np.float64))[relevant].sum()  # 0 is the best place
    worst_first = hits * (n - 1) - rank  # sum of places counted from the last
    return float((worst_first - hits * (hits - 1) / 2) / (hits * (n - hits)))


def expected_random_ndcg(n: int, k: int, hits: int) -> float:
    """nDCG@k that a random order of n items with `hits` relevant ones has on average."""
    return ndcg_at_k(np.zeros(n), np.arange(n) < hits, k)


def _mean_per_tie(scores: np.ndarray, by_place: np.ndarray) -> np.ndarray:
    """The mean of `by_place` over the places that each item's tied group occupies, best score first, (n,)."""
    value = np.where(np.isnan(scores), -np.inf, scores)
    _, group = np.unique(-value, return_inverse=True)
    place = np.argsort(group, kind="stable")
    totals = np.bincount(group[place], weights=by_place[: len(scores)])
    return (totals / np.bincount(group))[group]
