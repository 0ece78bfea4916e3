"""What a reranker reads of a user and an ad: how the ad compares with what was clicked and skipped, kernel by kernel.

With residual r = y - p and n impressions of the history, of each kernel K:

    pull      sum_h K r / sqrt(n + 10)
    nearest   mean of r weighted by softmax(K / .1)
    clicked   mean and maximum of K over clicks;   skipped   the same over skips
    total     ln(1 + sum over clicks of max(K, 0) / .1): how often, not how often among how many

of each column (year, price, ...): mean of r z, alone and times the ad's z. Beside them the effect of the ad, the
taste and the user's level. A user without history has 0 in all but effect and level. No feature knows the other ads of
a list, so one of 24 shown ads and one of 200 matched ads mean the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.pair_kernels import SLOPE
from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists, fitted_levels, residuals

NEAREST = 0.1  # temperature
DAMPING = 10.0  # impressions
FIRST_CLICK = 0.1  # of a total: small beside 1, so that the first click of the ad itself says most
PARTS = (
    "pull of",
    "nearest in",
    "clicked mean of",
    "clicked best of",
    "skipped mean of",
    "skipped best of",
    "clicked total of",
)
EFFECT, TASTE, LEVEL = SINGLE = ("effect", "taste", "level")


class Pairs(NamedTuple):
    """The C ads of B users; padded places give any numbers."""

    item: Tensor  # (B, T) of the history, -1 pads
    clicked: Tensor  # (B, T) bool
    residual: Tensor  # (B, T), 0 where padded
    level: Tensor  # (B,)
    effect: Tensor  # (B, C)
    taste: Tensor  # (B, C)
    stack: Tensor  # (B, T, C, F) kernels of compared_kernels
    known: Tensor  # (B, T, M) columns in standard deviations, 0 if unknown
    own: Tensor  # (B, C, M) likewise


def padded_pairs(
    histories: PaddedHistories, lists: PaddedLists, taste: Tensor, stack: Tensor, columns: Tensor, level: Level
) -> Pairs:
    """Of lists whose offset is the effect: taste (B, C), stack (B, T, C, F), columns (I, M) of every item."""
    levels = fitted_levels(histories, level)
    return Pairs(
        histories.item,
        histories.clicked > 0.5,
        residuals(histories, levels),
        levels,
        lists.offset,
        taste,
        stack,
        columns[histories.item.clamp(min=0)],
        columns[lists.item.clamp(min=0)],
    )


def compared_kernels(names: Sequence[str]) -> list[int]:
    """The places of the kernels that features are made of: all but the slopes, which columns are read for."""
    return [place for place, name in enumerate(names) if not name.startswith(SLOPE)]


def feature_names(kernels: Sequence[str], columns: Sequence[str]) -> tuple[str, ...]:
    """Of the P features, in order."""
    return (
        *SINGLE,
        *(f"{part} {kernel}" for part in PARTS for kernel in kernels),
        *(f"user slope of {name}" for name in columns),
        *(f"slope of {name} times it" for name in columns),
        *columns,
    )


def pair_features(pairs: Pairs) -> Tensor:
    """(B, C, P) in the order of feature_names."""
    present = pairs.item >= 0
    count = present.sum(dim=1)
    parts = kernel_parts(pairs.stack, pairs.residual, pairs.clicked, present)
    slope = torch.einsum("bt,btm->bm", pairs.residual, pairs.known) / (count[:, None] + DAMPING)  # (B, M)
    wide = slope[:, None, :].expand_as(pairs.own)
    single = torch.stack([pairs.effect, pairs.taste, pairs.level[:, None].expand_as(pairs.taste)], dim=2)
    return torch.cat([single, parts, wide, wide * pairs.own, pairs.own], dim=2)


def user_features(
    item: np.ndarray,
    clicked: np.ndarray,
    residual: np.ndarray,
    level: float,
    effect: np.ndarray,
    taste: np.ndarray,
    stack: np.ndarray,
    known: np.ndarray,
    own: np.ndarray,
) -> np.ndarray:
    """(K, P) of one user: T impressions, K ads, stack (F, T, K) of compared_kernels, known (T, M), own (K, M)."""
    pairs = (item, clicked, residual, effect, taste, np.ascontiguousarray(stack.transpose(1, 2, 0)), known, own)
    of_item, of_click, *numbers = (torch.as_tensor(one)[None] for one in pairs)
    of_residual, of_effect, of_taste, of_stack, of_known, of_own = (one.float() for one in numbers)
    levels = torch.full((1,), level)
    found = pair_features(
        Pairs(of_item, of_click, of_residual, levels, of_effect, of_taste, of_stack, of_known, of_own)
    )
    return np.asarray(found[0].numpy())


def kernel_parts(stack: Tensor, residual: Tensor, clicked: Tensor, present: Tensor) -> Tensor:
    """The PARTS of every kernel, (B, C, 7 F), part by part: stack (B, T, C, F), the others (B, T)."""
    if not stack.shape[1]:
        return stack.new_zeros(stack.shape[0], stack.shape[2], len(PARTS) * stack.shape[3])
    count = present.sum(dim=1)[:, None, None]
    pull = torch.einsum("btcf,bt->bcf", stack, residual) / (count + DAMPING).sqrt()
    hidden = ~present[:, :, None, None]
    share = (stack / NEAREST).masked_fill(hidden, -inf).softmax(dim=1).nan_to_num(0.0)
    found = [pull, torch.einsum("btcf,bt->bcf", share, residual)]
    for chosen in (clicked & present, ~clicked & present):
        number = chosen.sum(dim=1)[:, None, None]
        mean = torch.einsum("btcf,bt->bcf", stack, chosen.to(stack.dtype)) / number.clamp(min=1)
        best = stack.masked_fill(~chosen[:, :, None, None], -inf).amax(dim=1)
        found += [mean, torch.where(number > 0, best, 0.0)]
    total = torch.einsum("btcf,bt->bcf", stack.clamp(min=0), (clicked & present).to(stack.dtype))
    return torch.cat([*found, torch.log1p(total / FIRST_CLICK)], dim=2)


def behaviour_parts(stack: Tensor, residual: Tensor, clicked: Tensor) -> Tensor:
    """kernel_parts of one user taken apart, (T, C, 7, F): they add up over the T impressions.

    stack (T, C, F), the others (T,). A maximum is due to the first impression that has it, a total's logarithm to each
    click by its share of the total.
    """
    if not len(stack):
        return stack.new_zeros(0, stack.shape[1], len(PARTS), stack.shape[2])
    share = (stack / NEAREST).softmax(dim=0)
    weighed = residual[:, None, None]
    found = [stack * weighed / (len(stack) + DAMPING) ** 0.5, share * weighed]
    for chosen in (clicked, ~clicked):
        found.append(stack * chosen[:, None, None] / chosen.sum().clamp(min=1))
        best = torch.zeros_like(stack)
        if chosen.any():
            highest, place = stack.masked_fill(~chosen[:, None, None], -inf).max(dim=0, keepdim=True)
            best.scatter_(0, place, highest)
        found.append(best)
    counted = stack.clamp(min=0) * clicked[:, None, None]
    total = counted.sum(dim=0)
    found.append(counted * torch.where(total > 0, torch.log1p(total / FIRST_CLICK) / total, 0.0))
    return torch.stack(found, dim=2)
