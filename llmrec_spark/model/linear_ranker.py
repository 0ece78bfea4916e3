"""A list-wise linear ranker: features of a user and an ad -> one score, whose parts by feature add up exactly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.losses import list_loss

CLIP = 5.0  # standard deviations
PENALTY = 0.02  # of half the sum of squared weights, per list; .003 to .1 are level on RankLens
STEPS = 100


class LinearRanker(NamedTuple):
    """Plain numbers for P features. A feature that did not vary has weight 0."""

    mean: np.ndarray  # (P,)
    spread: np.ndarray  # (P,)
    weights: np.ndarray  # (P,) per standard deviation

    def standardised(self, features: np.ndarray) -> np.ndarray:
        """features (..., P) in standard deviations, clipped."""
        return np.asarray(np.clip((features - self.mean) / self.spread, -CLIP, CLIP))

    def score(self, features: np.ndarray) -> np.ndarray:
        """features (..., P) -> (...)."""
        return np.asarray(self.standardised(features) @ self.weights)

    @property
    def slopes(self) -> np.ndarray:
        """(P,) what the score rises by, where a feature is not clipped."""
        return np.asarray(self.weights / self.spread)

    def clipped(self, features: np.ndarray) -> np.ndarray:
        """(..., P) what clipping adds to the score: slopes times features plus this is it, but for a constant."""
        return np.asarray(self.slopes * (self.standardised(features) * self.spread + self.mean - features))


@torch.enable_grad()  # type: ignore[untyped-decorator]
def fit_linear_ranker(
    features: Tensor,
    clicked: Tensor,
    present: Tensor,
    *,
    offset: Tensor | float = 0.0,
    penalty: float = PENALTY,
    steps: int = STEPS,
) -> LinearRanker:
    """By L-BFGS on the list loss: features (L, C, P), clicked and present (L, C) bool.

    offset (L, C) is added to the score while it learns: what moves clicks there and is no matter of the ad.
    """
    width = features.shape[2]
    rows = features[present].double()
    if not len(rows):
        return LinearRanker(np.zeros(width), np.ones(width), np.zeros(width))
    mean, spread = rows.mean(dim=0), rows.std(dim=0, correction=0)
    spread = torch.where(spread > 1e-9, spread, 1.0)
    standard = ((features - mean.float()) / spread.float()).clamp(-CLIP, CLIP)
    weights = torch.zeros(width, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=steps, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        loss = list_loss(standard @ weights + offset, clicked, present) + 0.5 * penalty * (weights**2).sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[arg-type, no-untyped-call]
    return LinearRanker(mean.numpy(), spread.numpy(), weights.detach().double().numpy())
