"""What is expected of an item nobody has met: a ridge regression on a few numbers, which a model keeps as weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

FOLDS = 10  # of items
PENALTIES = tuple(float(value) for value in np.logspace(-1.5, 2.5, 13))
MIN_INFORMATION = 1e-6


class RidgePrior(NamedTuple):
    """m of any item, also one nobody has met: a linear function of P features."""

    mean: np.ndarray  # (P,) subtracted from the features
    weights: np.ndarray  # (P,)
    intercept: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """features (n, P) -> m (n,), in log-odds."""
        return np.asarray((features - self.mean) @ self.weights + self.intercept)


def fit_priors(
    features: np.ndarray, target: np.ndarray, precision: np.ndarray, penalties: Sequence[float]
) -> list[RidgePrior]:
    """Ridge regression with a weight per item, once per penalty: features (I, P), target and precision (I,).

    A penalty is in units of the mean precision of the items that have one, so that it means the same for any log.
    """
    total, width = precision.sum(), features.shape[1]
    if total <= 0.0:
        return [RidgePrior(np.zeros(width), np.zeros(width), 0.0) for _ in penalties]
    share = precision / total * np.count_nonzero(precision)
    mean = share @ features / share.sum()
    intercept = float(share @ target / share.sum())
    centred = features - mean
    weighted = centred * share[:, None]
    size, axes = np.linalg.eigh(centred.T @ weighted)
    turned = axes.T @ (weighted.T @ (target - intercept))
    return [RidgePrior(mean, axes @ (turned / (np.maximum(size, 0.0) + one)), intercept) for one in penalties]


def out_of_fold(
    features: np.ndarray, target: np.ndarray, precision: np.ndarray, penalties: Sequence[float], folds: np.ndarray
) -> np.ndarray:
    """m of every item from the items of the other folds (I,) int, (penalties, I): no item is told its own clicks."""
    found = np.zeros((len(penalties), len(target)))
    for fold in np.unique(folds):
        inside = folds == fold
        priors = fit_priors(features, target, np.where(inside, 0.0, precision), penalties)
        found[:, inside] = [one.predict(features[inside]) for one in priors]
    return found
