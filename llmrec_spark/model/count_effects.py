"""The effect of an item when all that is known is how often it was shown and clicked: shrunk to a prior from its text.

    clicks ~ Binomial(shown, sigmoid(base + b)),   b ~ N(m_item, spread^2)

What a daily run has of every ad, also of one that nobody has met: then b is m_item. The sums of `ad_statistics` are
enough, so the effect of a day needs no pass over the log. With clicks and conversions in the places of shown and
clicks it is the effect of an ad on conversions, given a click.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from llmrec_spark.model.item_effect import sigmoid
from llmrec_spark.model.ridge_prior import (
    FOLDS,
    MIN_INFORMATION,
    PENALTIES,
    RidgePrior,
    fit_priors,
    out_of_fold,
)

STEPS = 30
RATES = (1e-6, 0.5)  # bounds of the overall rate
ROUNDS = 2


class EffectModel(NamedTuple):
    """What turns counts and features of an item into its effect."""

    base: float  # log-odds at effect 0
    spread: float  # prior standard deviation around m
    prior: RidgePrior

    def effects(self, features: np.ndarray, shown: np.ndarray, clicks: np.ndarray) -> np.ndarray:
        """(I,) b of items with features (I, P) and counts (I,), in log-odds."""
        return count_effects(shown, clicks, self.prior.predict(features), base=self.base, spread=self.spread)


def count_effects(
    shown: np.ndarray, clicks: np.ndarray, prior: np.ndarray, *, base: float | np.ndarray, spread: float
) -> np.ndarray:
    """The most probable b of each item, (I,) float64, by Newton steps; `prior` (I,) where nothing was shown."""
    effect = prior.astype(np.float64)
    for _ in range(STEPS):
        p = sigmoid(base + effect)
        gradient = clicks - shown * p - (effect - prior) / spread**2
        step = gradient / (shown * p * (1.0 - p) + 1.0 / spread**2)
        effect = effect + np.clip(step, -1.0, 1.0)
        if np.abs(step).max(initial=0.0) < 1e-9:
            break
    return effect


def overall_log_odds(shown: np.ndarray, clicks: np.ndarray) -> float:
    """logit of all clicks over all shown, held in RATES."""
    rate = float(np.clip(clicks.sum() / max(shown.sum(), 1.0), *RATES))
    return float(np.log(rate / (1.0 - rate)))


def learn_effect_model(
    shown: np.ndarray,
    clicks: np.ndarray,
    features: np.ndarray,
    *,
    spread: float,
    penalties: Sequence[float] = PENALTIES,
) -> tuple[EffectModel, np.ndarray]:
    """The model, and m of each item from the items of other folds, (I,): what to train on, for no item is told its own.

    shown, clicks (I,), features (I, P). The penalty of the ridge is the one that predicts best out of fold.
    """
    base = overall_log_odds(shown, clicks)
    folds, prior = np.arange(len(shown)) % FOLDS, np.zeros(len(shown))
    model = RidgePrior(np.zeros(features.shape[1]), np.zeros(features.shape[1]), 0.0)
    for _ in range(ROUNDS):
        effect = count_effects(shown, clicks, prior, base=base, spread=spread)
        p = sigmoid(base + effect)
        information = np.maximum(shown * p * (1.0 - p), MIN_INFORMATION)
        precision = np.where(shown > 0, 1.0 / (spread**2 + 1.0 / information), 0.0)
        target = np.where(shown > 0, effect + (effect - prior) / (spread**2 * information), 0.0)  # of the counts alone
        trials = out_of_fold(features, target, precision, penalties, folds)
        best = int(np.argmin(((target - trials) ** 2) @ precision))
        prior = trials[best]
        [model] = fit_priors(features, target, precision, [penalties[best]])
    return EffectModel(base, spread, model), prior
