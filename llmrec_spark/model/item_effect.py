"""What pulls people to an item whoever they are: a Bayesian estimate, shrunk to a prior read from text and columns.

    logit P(click) = a_user + b_item + c_position
    a ~ N(mu, level_sd^2), b ~ N(m_item, effect_sd^2), c ~ N(0, position_sd^2)

a Rasch model with a position: an item that was shown to people who click little, or low in lists, is not the worse for
it. m_item is a ridge regression of the effects on what is known of an item before anyone has met it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

SWEEPS = 60
TOLERANCE = 1e-5  # of the largest step of a sweep
FOLDS = 10  # of items
PENALTIES = tuple(float(value) for value in np.logspace(-1.5, 2.5, 13))
MIN_INFORMATION = 1e-6


class Spreads(NamedTuple):
    """Prior standard deviations, in log-odds."""

    level: float = 1.0
    effect: float = 0.6
    position: float = 0.1


class Impressions(NamedTuple):
    """n impressions, flat: who saw what where, as codes from 0, and whether it was clicked."""

    user: np.ndarray  # (n,) int
    item: np.ndarray  # (n,) int
    position: np.ndarray  # (n,) int
    clicked: np.ndarray  # (n,) bool


class ItemEffects(NamedTuple):
    """The most probable values, in log-odds, and how much the clicks say of each item."""

    effect: np.ndarray  # (I,) b; m where an item was never shown
    information: np.ndarray  # (I,) sum of p (1 - p) over the item's impressions; 0 where never shown
    level: np.ndarray  # (U,) a
    position: np.ndarray  # (P,) c
    mean_level: float  # mu

    def unshrunk(self, prior: np.ndarray, spread: float) -> np.ndarray:
        """(I,) what the clicks alone say of each item, given levels and positions; as uncertain as 1 / information."""
        says = np.maximum(self.information, MIN_INFORMATION)
        return np.asarray(self.effect + (self.effect - prior) / (spread**2 * says))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def fit_item_effects(
    shown: Impressions, prior: np.ndarray, *, users: int, positions: int, spreads: Spreads | None = None
) -> ItemEffects:
    """The posterior mode, by Newton steps on each block in turn; prior (I,) is m.

    Given the other blocks every number of a block stands alone, so a sweep costs three passes over the impressions.
    """
    spreads = spreads or Spreads()
    clicked = shown.clicked.astype(np.float64)
    rate = np.clip(clicked.mean() if len(clicked) else 0.5, 0.01, 0.99)
    mean_level = float(np.log(rate / (1.0 - rate)) - (prior[shown.item].mean() if len(clicked) else 0.0))
    level, effect, position = np.full(users, mean_level), prior.astype(np.float64), np.zeros(positions)
    blocks = (
        (level, shown.user, spreads.level),
        (effect, shown.item, spreads.effect),
        (position, shown.position, spreads.position),
    )
    logit = level[shown.user] + effect[shown.item] + position[shown.position]
    for _ in range(SWEEPS):
        largest = 0.0
        for number, (values, index, spread) in enumerate(blocks):
            p = sigmoid(logit)
            centre = (mean_level, prior, 0.0)[number]
            gradient = np.bincount(index, clicked - p, len(values)) - (values - centre) / spread**2
            curvature = np.bincount(index, p * (1.0 - p), len(values)) + 1.0 / spread**2
            step = np.clip(gradient / curvature, -1.0, 1.0)
            values += step
            logit += step[index]
            largest = max(largest, float(np.abs(step).max(initial=0.0)))
        mean_level = float(level.mean()) if users else mean_level
        if largest < TOLERANCE:
            break
    p = sigmoid(logit)
    return ItemEffects(effect, np.bincount(shown.item, p * (1.0 - p), len(effect)), level, position, mean_level)


class ItemPrior(NamedTuple):
    """m of any item, also one nobody has met: a linear function of P features."""

    mean: np.ndarray  # (P,) subtracted from the features
    weights: np.ndarray  # (P,)
    intercept: float

    def predict(self, features: np.ndarray) -> np.ndarray:
        """features (n, P) -> m (n,), in log-odds."""
        return np.asarray((features - self.mean) @ self.weights + self.intercept)


def fit_priors(
    features: np.ndarray, target: np.ndarray, precision: np.ndarray, penalties: Sequence[float]
) -> list[ItemPrior]:
    """Ridge regression with a weight per item, once per penalty: features (I, P), target and precision (I,).

    A penalty is in units of the mean precision of the items that have one, so that it means the same for any log.
    """
    total, width = precision.sum(), features.shape[1]
    if total <= 0.0:
        return [ItemPrior(np.zeros(width), np.zeros(width), 0.0) for _ in penalties]
    share = precision / total * np.count_nonzero(precision)
    mean = share @ features / share.sum()
    intercept = float(share @ target / share.sum())
    centred = features - mean
    weighted = centred * share[:, None]
    size, axes = np.linalg.eigh(centred.T @ weighted)
    turned = axes.T @ (weighted.T @ (target - intercept))
    return [ItemPrior(mean, axes @ (turned / (np.maximum(size, 0.0) + one)), intercept) for one in penalties]


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


class LearnedEffects(NamedTuple):
    """Effects, the prior of each item from the other items, and the prior for new ones."""

    effects: ItemEffects
    prior: np.ndarray  # (I,) out of fold
    model: ItemPrior
    penalty: float


def learn_item_effects(
    shown: Impressions,
    features: np.ndarray,
    *,
    users: int,
    positions: int,
    spreads: Spreads | None = None,
    penalties: Sequence[float] = PENALTIES,
    rounds: int = 2,
) -> LearnedEffects:
    """Effects and their prior, in turn: features (I, P) of all items; the penalty is the best of `penalties` in folds.

    An item with few impressions has little say in the prior: it weighs 1 / (effect_sd^2 + 1 / information).
    """
    spreads = spreads or Spreads()
    items = len(features)
    folds = np.arange(items) % FOLDS
    prior = np.zeros(items)
    found = fit_item_effects(shown, prior, users=users, positions=positions, spreads=spreads)
    model, penalty = ItemPrior(np.zeros(features.shape[1]), np.zeros(features.shape[1]), 0.0), penalties[0]
    for _ in range(rounds):
        target = found.unshrunk(prior, spreads.effect)
        known = found.information > MIN_INFORMATION
        noise = spreads.effect**2 + 1.0 / np.maximum(found.information, MIN_INFORMATION)
        precision = np.where(known, 1.0 / noise, 0.0)
        target = np.where(known, target, 0.0)
        trials = out_of_fold(features, target, precision, penalties, folds)
        best = int(np.argmin(((target - trials) ** 2) @ precision))
        prior, penalty = trials[best], penalties[best]
        [model] = fit_priors(features, target, precision, [penalty])
        found = fit_item_effects(shown, prior, users=users, positions=positions, spreads=spreads)
    return LearnedEffects(found, prior, model, penalty)
