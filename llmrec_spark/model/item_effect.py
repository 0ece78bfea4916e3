"""What pulls people to an item whoever they are: a Bayesian estimate, shrunk to a prior read from text and columns.

    logit P(click) = a_user + b_item + c_position
    a ~ N(mu, level_sd^2), b ~ N(m_item, effect_sd_item^2), c ~ N(0, position_sd^2)

a Rasch model with a position: an item that was shown to people who click little, or low in lists, is not the worse for
it. m and its spread come from `ridge_prior`, or where every pair of items fits in memory from `item_prior`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

SWEEPS = 60
TOLERANCE = 1e-5  # of the largest step of a sweep
MIN_INFORMATION = 1e-6
LEVEL_SPREAD = 1.0  # prior standard deviations, in log-odds
POSITION_SPREAD = 0.1


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

    def unshrunk(self, prior: np.ndarray, spread: np.ndarray) -> np.ndarray:
        """(I,) what the clicks alone say of each item, given levels and positions; as uncertain as 1 / information."""
        says = np.maximum(self.information, MIN_INFORMATION)
        return np.asarray(self.effect + (self.effect - prior) / (spread**2 * says))


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))


def fit_item_effects(
    shown: Impressions, prior: np.ndarray, spread: np.ndarray, *, users: int, positions: int
) -> ItemEffects:
    """The posterior mode, by Newton steps on each block in turn; prior (I,) is m, spread (I,) effect_sd.

    Given the other blocks every number of a block stands alone, so a sweep costs three passes over the impressions.
    """
    clicked = shown.clicked.astype(np.float64)
    rate = np.clip(clicked.mean() if len(clicked) else 0.5, 0.01, 0.99)
    mean_level = float(np.log(rate / (1.0 - rate)) - (prior[shown.item].mean() if len(clicked) else 0.0))
    level, effect, position = np.full(users, mean_level), prior.astype(np.float64), np.zeros(positions)
    blocks: tuple[tuple[np.ndarray, np.ndarray, np.ndarray | float], ...] = (
        (level, shown.user, LEVEL_SPREAD),
        (effect, shown.item, spread),
        (position, shown.position, POSITION_SPREAD),
    )
    logit = level[shown.user] + effect[shown.item] + position[shown.position]
    for _ in range(SWEEPS):
        largest = 0.0
        for number, (values, index, deviation) in enumerate(blocks):
            p = sigmoid(logit)
            centre = (mean_level, prior, 0.0)[number]
            gradient = np.bincount(index, clicked - p, len(values)) - (values - centre) / deviation**2
            curvature = np.bincount(index, p * (1.0 - p), len(values)) + 1.0 / deviation**2
            step = np.clip(gradient / curvature, -1.0, 1.0)
            values += step
            logit += step[index]
            largest = max(largest, float(np.abs(step).max(initial=0.0)))
        mean_level = float(level.mean()) if users else mean_level
        if largest < TOLERANCE:
            break
    p = sigmoid(logit)
    return ItemEffects(effect, np.bincount(shown.item, p * (1.0 - p), len(effect)), level, position, mean_level)
