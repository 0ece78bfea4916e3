"""Probabilities made right on held-back examples by a rising curve: isotonic regression, kept as its knots.

Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", 2002. Between the
knots, the means of the pooled blocks, the curve is a line, so that only equal probabilities stay equal where it rises.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]

FEWEST = 100  # rows of either kind that a curve asks for: with fewer its steps follow chance


def isotonic_knots(predicted: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """(2, m): predicted means of the blocks, rising, and what happened in each; m is 0 where there is too little.

    predicted (n,) probabilities, happened (n,) bool
    """
    count = int(happened.sum())
    if min(count, len(happened) - count) < FEWEST:
        return np.zeros((2, 0))
    order = np.argsort(predicted, kind="stable")
    values, first, sizes = np.unique(predicted[order], return_index=True, return_counts=True)
    counts = np.add.reduceat(happened[order].astype(np.float64), first)
    starts = isotonic_regression(counts / sizes, weights=sizes).blocks[:-1]
    weights, counts = (np.add.reduceat(one, starts) for one in (sizes, counts))
    return np.stack([np.add.reduceat(values * sizes, starts) / weights, _unsure(counts, weights)])


def _unsure(counts: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The rates of the blocks, those of the ends as if half an example of the other kind had been there too: a run of
    one kind is no reason to be certain.
    """
    rates: np.ndarray = counts / sizes
    if counts[0] == 0:
        rates[0] = min(0.5 / (sizes[0] + 1.0), *rates[1:2])
    if counts[-1] == sizes[-1]:
        rates[-1] = max((counts[-1] + 0.5) / (sizes[-1] + 1.0), *rates[-2:-1])
    return rates


def on_knots(knots: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """The probabilities on the curve; as they are where it has no knots. Beyond the last knots it is level."""
    return np.asarray(np.interp(predicted, *knots)) if knots.shape[1] else predicted
