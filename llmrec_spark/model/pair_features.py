"""What a ranker reads of a user and an ad: how the ad compares with what was clicked and skipped, kernel by kernel.

With residual r = y - p and n impressions of the history, of each kernel K:

    pull      sum_h K r / sqrt(n + 10)
    nearest   mean of r weighted by softmax(K / .1)
    clicked   mean and maximum of K over clicks;   skipped   the same over skips

of each column (year, price, ...): mean of r z, alone and times the ad's z. Of the item effect: itself, less the mean of
the list, and its rank in the list; of the taste GP: the taste. A user without history has 0 in all but the effect's.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import torch
from torch import Tensor

from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists, fitted_levels

NEAREST = 0.1  # temperature
DAMPING = 10.0  # impressions
PARTS = ("pull of", "nearest in", "clicked mean of", "clicked best of", "skipped mean of", "skipped best of")


class PairFeatures(NamedTuple):
    """P features of the C ads of B lists; padded places hold any numbers."""

    names: tuple[str, ...]
    values: Tensor  # (B, C, P) float32


def pair_features(
    histories: PaddedHistories,
    lists: PaddedLists,
    stack: Tensor,
    taste: Tensor,
    columns: Tensor,
    level: Level,
    *,
    kernels: Sequence[str],
    named: Sequence[str],
) -> PairFeatures:
    """stack (B, T, C, F) of `kernels`, taste (B, C), columns (I, M) standardised values of every item, 0 if unknown."""
    present = histories.item >= 0  # (B, T)
    base = fitted_levels(histories, level)
    residual = (histories.clicked - torch.sigmoid(base[:, None] + histories.offset)) * present
    count = present.sum(dim=1)
    parts = kernel_parts(stack, residual, histories.clicked > 0.5, present)
    known = columns[histories.item.clamp(min=0)]  # (B, T, M)
    slope = torch.einsum("bt,btm->bm", residual, known) / (count[:, None] + DAMPING)  # (B, M)
    own = columns[lists.item.clamp(min=0)]  # (B, C, M)
    wide = slope[:, None, :].expand_as(own)
    shown = lists.item >= 0
    mean = (lists.offset * shown).sum(dim=1, keepdim=True) / shown.sum(dim=1, keepdim=True).clamp(min=1)
    better = (lists.offset[:, None, :] > lists.offset[:, :, None]) & shown[:, None, :]  # (B, C, C)
    rank = better.sum(dim=2) / shown.sum(dim=1, keepdim=True).clamp(min=1)
    levels = base[:, None].expand_as(taste)
    single = torch.stack([lists.offset, lists.offset - mean, rank, taste, levels], dim=2)
    names = (
        *("effect", "effect in list", "effect rank", "taste", "level"),
        *(f"{part} {kernel}" for part in PARTS for kernel in kernels),
        *(f"user slope of {name}" for name in named),
        *(f"slope of {name} times it" for name in named),
        *named,
    )
    return PairFeatures(names, torch.cat([single, parts, wide, wide * own, own], dim=2))


def kernel_parts(stack: Tensor, residual: Tensor, clicked: Tensor, present: Tensor) -> Tensor:
    """The PARTS of every kernel, (B, C, 6 F), part by part: stack (B, T, C, F), the others (B, T)."""
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
    return torch.cat(found, dim=2)
