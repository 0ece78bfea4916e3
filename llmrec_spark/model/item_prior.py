"""What is expected of an item's effect before anyone has met it: Gaussian process regression on items that were met.

    z_i = m_i + e_i,   m ~ N(mean, sum_f v_f K_f),   e_i ~ N(0, 1 / information_i)

z is what the clicks alone say of item i (`ItemEffects.unshrunk`), K_f are kernels of pairs of items; the variances v
are those of the largest marginal likelihood (Rasmussen and Williams, 2006, section 5.4.1). An item that was met gets
what all the others say of it (leave-one-out, their section 5.4.2), so no item is told its own clicks; a new one gets a
weighted sum of kernels to those that were.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.item_effect import MIN_INFORMATION, Impressions, ItemEffects, fit_item_effects

FIRST_VARIANCE, RATE, STEPS = 0.03, 0.15, 30  # of Adam on the logarithms of the variances
LEARNED_ON = 700  # items; the cost of a step grows with their cube
FIRST_SPREAD = 0.6  # of effects while no prior is known
NEVER_SHOWN = 1e9  # as uncertain as that


class Variances(NamedTuple):
    """The learned numbers of the prior."""

    kernels: np.ndarray  # (F,) v
    mean: float


class ItemPrior(NamedTuple):
    """m of any item from its kernels to the n items that were met: mean + sum_i coefficient_i K(item, i)."""

    items: np.ndarray  # (n,) places of the items met
    coefficients: np.ndarray  # (n,) float64
    mean: float

    def predict(self, table: Tensor) -> np.ndarray:
        """table (A, n), K = sum_f v_f K_f between new items and `items` -> m (A,), in log-odds."""
        return np.asarray(table.double().numpy() @ self.coefficients + self.mean)


class LearnedEffects(NamedTuple):
    """Effects, what the other items say of each, and the prior for new ones."""

    effects: ItemEffects
    prior: np.ndarray  # (I,) m, without the item's own clicks
    spread: np.ndarray  # (I,) standard deviation of b about m
    model: ItemPrior


def first_effects(shown: Impressions, items: int, *, users: int, positions: int) -> tuple[np.ndarray, np.ndarray]:
    """z and its variance, (I,) each, from clicks alone; where never shown 0 and NEVER_SHOWN."""
    prior, spread = np.zeros(items), np.full(items, FIRST_SPREAD)
    found = fit_item_effects(shown, prior, spread, users=users, positions=positions)
    known = found.information > MIN_INFORMATION
    target = np.where(known, found.unshrunk(prior, spread), 0.0)
    return target, np.where(known, 1.0 / np.maximum(found.information, MIN_INFORMATION), NEVER_SHOWN)


@torch.enable_grad()  # type: ignore[untyped-decorator]
def learn_variances(stack: Tensor, target: np.ndarray, noise: np.ndarray) -> Variances:
    """v (F,) and the mean by Adam on the marginal likelihood: stack (n, n, F), target and noise (n,)."""
    kernels = stack.shape[2]
    if not len(target):
        return Variances(np.full(kernels, FIRST_VARIANCE), 0.0)
    values, variance = (torch.as_tensor(one, dtype=torch.float32) for one in (target, noise))
    logs = torch.full((kernels,), float(np.log(FIRST_VARIANCE)), requires_grad=True)
    mean = torch.tensor(float(np.average(target, weights=1.0 / (noise + FIRST_SPREAD**2))), requires_grad=True)
    optimiser = torch.optim.Adam([logs, mean], lr=RATE)
    for _ in range(STEPS):
        factor = torch.linalg.cholesky(stack @ logs.exp() + torch.diag(variance + 1e-4))
        residual = (values - mean)[:, None]
        fit = 0.5 * (residual * torch.cholesky_solve(residual, factor)).sum()
        loss = fit + factor.diagonal().log().sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return Variances(logs.detach().exp().double().numpy(), mean.item())


def fit_item_prior(
    table: Tensor, target: np.ndarray, noise: np.ndarray, mean: float
) -> tuple[ItemPrior, np.ndarray, np.ndarray]:
    """The prior for new items, and m and its standard deviation for every item without its own clicks, (I,) each.

    table (I, I) is K; the items with noise below NEVER_SHOWN were met.
    """
    met = np.flatnonzero(noise < NEVER_SHOWN)
    prior, spread = np.full(len(target), mean), np.sqrt(np.maximum(table.diagonal().double().numpy(), 1e-6))
    if not len(met):
        return ItemPrior(met, np.zeros(0), mean), prior, spread
    inner = table[met][:, met] + torch.diag(torch.as_tensor(noise[met] + 1e-4, dtype=table.dtype))
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(inner)).double().numpy()
    coefficients = inverse @ (target[met] - mean)
    model = ItemPrior(met, coefficients, mean)
    precision = inverse.diagonal()
    prior[met] = target[met] - coefficients / precision
    spread[met] = np.sqrt(np.maximum(1.0 / precision - noise[met], 1e-4))
    new = np.flatnonzero(noise >= NEVER_SHOWN)
    prior[new] = model.predict(table[new][:, met])
    return model, prior, spread


def learn_item_effects(shown: Impressions, table: Tensor, mean: float, *, users: int, positions: int) -> LearnedEffects:
    """Effects of I items and their prior: table (I, I) is K with learned variances."""
    target, noise = first_effects(shown, len(table), users=users, positions=positions)
    model, prior, spread = fit_item_prior(table, target, noise, mean)
    effects = fit_item_effects(shown, prior, spread, users=users, positions=positions)
    return LearnedEffects(effects, prior, spread, model)
