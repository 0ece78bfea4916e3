"""What a network is trained to make small: each term as a sum and a count, so that several processes take one mean."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.model.heads import HeadLogits, log_ctcvr
from llmrec_spark.model.network_batches import Batch

ListLoss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(scores (B, K), clicked (B, K) bool, present (B, K) bool) -> (), the mean over the lists.

It is given lists alone that hold a click and an ad without one; what is not present must not matter.
"""


class Term(NamedTuple):
    """A part of the loss, over the examples that this process has."""

    total: Tensor  # () float32
    examples: Tensor  # () float32, how many it is the sum of


def click_term(logits: HeadLogits, batch: Batch) -> Term:
    """Log loss of p_click over all impressions."""
    each = F.binary_cross_entropy_with_logits(logits.click, batch.clicked.float(), reduction="none")  # (B, K)
    return _summed(each, batch.present)


def ctcvr_term(logits: HeadLogits, batch: Batch) -> Term:
    """Log loss of p_ctcvr over all impressions whose conversions are known."""
    happened, not_happened = log_ctcvr(logits)
    each = -torch.where(batch.converted & batch.clicked, happened, not_happened)  # (B, K)
    return _summed(each, batch.present & batch.conversion_known)


def list_term(logits: HeadLogits, batch: Batch, list_loss: ListLoss) -> Term:
    """The list-wise loss over the lists that hold a click and an ad without one."""
    clicked = batch.clicked & batch.present
    mixed = clicked.any(dim=1) & (batch.present & ~clicked).any(dim=1)  # (B,)
    if not mixed.any():
        return Term(logits.click.sum() * 0.0, mixed.sum().float())
    lists = mixed.sum().float()
    return Term(list_loss(logits.click[mixed], clicked[mixed], batch.present[mixed]) * lists, lists)


def network_terms(
    logits: HeadLogits, batch: Batch, *, list_loss: ListLoss | None, list_share: float
) -> list[tuple[float, Term]]:
    """The terms of the loss with their weights: click, click and conversion, and the list's where there is one."""
    terms = [(1.0, click_term(logits, batch)), (1.0, ctcvr_term(logits, batch))]
    if list_loss is not None and list_share:
        terms.append((list_share, list_term(logits, batch, list_loss)))
    return terms


def _summed(each: Tensor, counted: Tensor) -> Term:
    return Term(torch.where(counted, each, 0.0).sum(), counted.sum().float())
