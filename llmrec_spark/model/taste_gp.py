"""A history -> one signed weight per behaviour, in closed form: a Gaussian process for what a user likes beyond b.

    logit P(click of u on a) = level_u + offset_a + taste_u(a),   taste_u ~ GP(0, K),   K = sum_f exp(theta_f) K_f

With r = y - p and W = p (1 - p) of the impressions H of a history, clicked and skipped, at the user's fitted level,

    alpha = W^.5 (I + W^.5 K_HH W^.5)^-1 W^-.5 r,    taste_u(a) = sum_h alpha_h K(h, a)

one Newton step to the posterior mode (Rasmussen and Williams, "Gaussian Processes for Machine Learning", 2006,
algorithm 3.1; more steps if asked). It is a weighted sum of rows of a table of pairs, as the match is, and its parts
by behaviour and kernel add up exactly. theta is learned from lists, with the item effect as offset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.model.losses import list_loss

FIRST_VARIANCE = 0.1  # exp(theta) before learning
LEVEL_STEPS = 8
MIN_WEIGHT = 1e-6
USERS_AT_ONCE = 256

Kernels = Callable[[Tensor, Tensor], Tensor]  # items (B, T), (B, C) -> (B, T, C, F)


class Level(NamedTuple):
    """Prior of the users' level, in log-odds."""

    mean: float
    spread: float = 1.0


class PaddedHistories(NamedTuple):
    """B users, at most T impressions each, padded on the right."""

    item: Tensor  # (B, T) int64, -1 pads
    clicked: Tensor  # (B, T) float, 1 or 0
    offset: Tensor  # (B, T) float, item effect + position effect

    def part(self, rows: Tensor | slice) -> PaddedHistories:
        """Some of the users, without columns that pad them all."""
        item = self.item[rows]
        used = (item >= 0).any(dim=0).nonzero()
        longest = int(used[-1]) + 1 if len(used) else 0
        return PaddedHistories(item[:, :longest], self.clicked[rows, :longest], self.offset[rows, :longest])


class PaddedLists(NamedTuple):
    """B lists, at most C shown items each, padded on the right."""

    item: Tensor  # (B, C) int64, -1 pads
    clicked: Tensor  # (B, C) bool
    offset: Tensor  # (B, C) float, item effect

    def part(self, rows: Tensor | slice) -> PaddedLists:
        """Some of the lists."""
        return PaddedLists(self.item[rows], self.clicked[rows], self.offset[rows])


def place_within(owner: np.ndarray) -> np.ndarray:
    """The place of each row within its owner; owner (n,) ascending."""
    return np.arange(len(owner)) - np.searchsorted(owner, owner)


def padded(owner: np.ndarray, owners: int, values: tuple[np.ndarray, ...], fill: tuple[float, ...]) -> list[Tensor]:
    """Each of values (n,), whose owners ascend, as (owners, longest)."""
    place = place_within(owner)
    tables = []
    for one, empty in zip(values, fill, strict=True):
        table = np.full((owners, int(place.max(initial=-1)) + 1), empty, dtype=one.dtype)
        table[owner, place] = one
        tables.append(torch.as_tensor(table))
    return tables


def fitted_levels(histories: PaddedHistories, level: Level) -> Tensor:
    """(B,) the most probable level of each user; the prior mean without a history."""
    present = histories.item >= 0
    values = torch.full((len(present),), level.mean, dtype=histories.offset.dtype)
    for _ in range(LEVEL_STEPS):
        p = torch.sigmoid(values[:, None] + histories.offset)
        gradient = ((histories.clicked - p) * present).sum(dim=1) - (values - level.mean) / level.spread**2
        curvature = (p * (1.0 - p) * present).sum(dim=1) + 1.0 / level.spread**2
        values = values + (gradient / curvature).clamp(-2.0, 2.0)
    return values


def residuals(histories: PaddedHistories, levels: Tensor) -> Tensor:
    """(B, T) clicks less what level (B,) and offset make expected of each impression; 0 where padded."""
    return (histories.clicked - torch.sigmoid(levels[:, None] + histories.offset)) * (histories.item >= 0)


def behaviour_weights(histories: PaddedHistories, table: Tensor, level: Level, *, steps: int = 1) -> Tensor:
    """alpha (B, T), 0 where padded, from K_HH `table` (B, T, T)."""
    present = histories.item >= 0
    base = fitted_levels(histories, level)[:, None] + histories.offset  # (B, T)
    identity = torch.eye(table.shape[1], dtype=table.dtype)
    taste = alpha = torch.zeros_like(base)
    for _ in range(steps):
        p = torch.sigmoid(base + taste)
        w = (p * (1.0 - p)).clamp(min=MIN_WEIGHT) * present
        target = w * taste + (histories.clicked - p) * present
        root = w.sqrt()
        inner = identity + root[:, :, None] * table * root[:, None, :]
        factor = torch.linalg.cholesky(inner)
        pulled = root * torch.einsum("bts,bs->bt", table, target)
        alpha = target - root * torch.cholesky_solve(pulled[:, :, None], factor)[:, :, 0]
        taste = torch.einsum("bts,bs->bt", table, alpha)
    return alpha


@torch.enable_grad()  # type: ignore[untyped-decorator]
def learn_theta(
    histories: PaddedHistories,
    lists: PaddedLists,
    kernels: Kernels,
    level: Level,
    *,
    count: int,
    seed: int,
    rate: float = 0.06,
    batch: int = 32,
    steps: int = 1,
    losses: list[float] | None = None,
) -> np.ndarray:
    """theta (F,) float64, F = `count` kernels, by an epoch of Adam, its rate falling to 0, on the list loss of L lists.

    Row l of `histories` is what is known of the user of list l, without list l itself. The loss of each step is added
    to `losses`.
    """
    theta = torch.full((count,), float(np.log(FIRST_VARIANCE)), requires_grad=True)
    optimiser = torch.optim.Adam([theta], lr=rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.0, max(-(-len(lists.item) // batch), 1))
    order = torch.randperm(len(lists.item), generator=torch.Generator().manual_seed(seed))
    for rows in torch.split(order, batch):
        known, asked = histories.part(rows), lists.part(rows)
        stack = kernels(known.item, torch.cat([known.item, asked.item], dim=1))  # (B, T, T + C, F)
        table = stack @ theta.exp()
        own, across = torch.split(table, [known.item.shape[1], asked.item.shape[1]], dim=2)
        alpha = behaviour_weights(known, own, level, steps=steps)
        scores = asked.offset + torch.einsum("bt,btc->bc", alpha, across)
        loss = list_loss(scores, asked.clicked, asked.item >= 0)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        falling.step()
        if losses is not None:
            losses.append(float(loss.detach()))
    return theta.detach().double().numpy()


@torch.no_grad()
def alphas(histories: PaddedHistories, kernels: Kernels, theta: np.ndarray, level: Level, *, steps: int = 1) -> Tensor:
    """alpha (B, T) of many users, in batches."""
    weights = torch.as_tensor(np.exp(theta), dtype=torch.float32)
    found = torch.zeros_like(histories.offset)
    for start in range(0, len(found), USERS_AT_ONCE):
        known = histories.part(slice(start, start + USERS_AT_ONCE))
        table = kernels(known.item, known.item) @ weights
        found[start : start + len(table), : table.shape[1]] = behaviour_weights(known, table, level, steps=steps)
    return found


@torch.no_grad()
def taste_of_lists(alpha: Tensor, known: Tensor, asked: Tensor, kernels: Kernels, theta: np.ndarray) -> np.ndarray:
    """taste (B, C) of the items `asked` (B, C) by the weights alpha (B, T) of the items `known` (B, T)."""
    weights = torch.as_tensor(np.exp(theta), dtype=torch.float32)
    found = [
        torch.einsum("bt,btc->bc", a, kernels(k, c) @ weights)
        for a, k, c in zip(*(torch.split(one, USERS_AT_ONCE) for one in (alpha, known, asked)), strict=True)
    ]
    return torch.cat(found).double().numpy() if found else np.zeros(tuple(asked.shape))


def taste_block(table: Tensor, row: np.ndarray, alpha: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """taste of every user for every ad of a block, (U, A) float64: the factorised form.

    table (G, A) of `kernel_table`; behaviours flat, row (n,) into the table and alpha (n,), user u owns offsets[u] to
    offsets[u + 1]. A user without behaviours has taste 0.
    """
    if not len(row):
        return np.zeros((len(offsets) - 1, table.shape[1]))
    sums = F.embedding_bag(
        torch.as_tensor(row, dtype=torch.long),
        table,
        torch.as_tensor(offsets[:-1], dtype=torch.long),
        mode="sum",
        per_sample_weights=torch.as_tensor(alpha, dtype=table.dtype),
    )
    return np.asarray(sums.double().numpy())


def taste_terms(alpha: np.ndarray, stack: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """The taste of one user for K ads taken apart, (T, F, K) float64: alpha_h exp(theta_f) K_f(h, a).

    alpha (T,), stack (F, T, K) of `pair_kernels`. They add up to taste over behaviours and kernels.
    """
    return np.asarray(alpha[:, None, None] * np.exp(theta)[None, :, None] * stack.transpose(1, 0, 2))
