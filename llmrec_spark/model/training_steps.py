"""One step of training: a mean over the examples of all processes, its gradient, the schedule of the learning rate."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import cos, pi
from typing import Protocol

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from llmrec_spark.errors import DataError
from llmrec_spark.model.network_batches import Batch, BatchAds
from llmrec_spark.model.network_losses import Term


class Objective(Protocol):
    """A batch -> the weighted terms of its loss; a module, or one that averages its gradient over processes."""

    def __call__(self, batch: Batch, ads: BatchAds) -> list[tuple[float, Term]]:
        """Each term with its weight."""


def learning_rate_factor(step: int, *, steps: int, warmup_share: float) -> float:
    """Share of the full rate at a step counted from 0: up a line over the warm-up, then down half a cosine to 0."""
    warmup = warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    done = min((step - warmup) / max(steps - warmup, 1), 1.0)
    return 0.5 * (1.0 + cos(pi * done))


def decayed_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """The parameters in two groups: matrices, which decay, and the rest."""
    parameters = list(module.parameters())
    matrices, vectors = [p for p in parameters if p.ndim > 1], [p for p in parameters if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": weight_decay}, {"params": vectors, "weight_decay": 0.0}]


def mean_loss(terms: Sequence[tuple[float, Term]], *, world_size: int, counts: bool) -> tuple[Tensor, float]:
    """The loss whose gradient, averaged over processes, is that of the mean over all their examples; and that mean.

    A process whose batch does not count (it has run out) takes part with a gradient of 0.
    """
    weights = torch.tensor([weight for weight, _ in terms], device=terms[0][1].total.device)
    totals = torch.stack([term.total.float() for _, term in terms]) * float(counts)
    count = torch.stack([term.examples for _, term in terms]) * float(counts)
    sums = torch.stack([totals.detach(), count])
    if world_size > 1:
        dist.all_reduce(sums)
    everyone = sums[1].clamp(min=1.0)
    loss = (weights * totals / everyone).sum() * world_size
    return loss, float((weights * sums[0] / everyone).sum())


def backward(
    objective: Objective,
    batch: Batch,
    ads: BatchAds,
    *,
    counts: bool,
    adversarial: float,
    mixed_precision: bool,
    world_size: int,
) -> float:
    """Adds the gradient of a step to the parameters, averaged over processes; returns its mean loss, without pushes.

    adversarial: FGM (Miyato et al. 2017, Adversarial Training Methods for Semi-Supervised Text Classification). Each
    text vector is pushed this far along its gradient, and the loss there is added.
    """

    def loss_at(vectors: Tensor) -> tuple[Tensor, float]:
        with torch.autocast(vectors.device.type, dtype=torch.bfloat16, enabled=mixed_precision):
            terms = objective(batch, replace(ads, vectors=vectors))
        return mean_loss(terms, world_size=world_size, counts=counts)

    if not adversarial:
        loss, value = loss_at(ads.vectors)
    else:
        vectors = ads.vectors.detach().requires_grad_()
        clean, value = loss_at(vectors)
        (uphill,) = torch.autograd.grad(clean, vectors, retain_graph=True, materialize_grads=True)  # (V, D)
        pushed, _ = loss_at(vectors.detach() + adversarial * F.normalize(uphill, dim=-1))
        loss = clean + pushed
    loss.backward()  # type: ignore[no-untyped-call]
    return value


def aligned(batches: Iterable[Batch], *, rank: int, world_size: int, device: str) -> Iterator[tuple[Batch, bool]]:
    """The batches of this process and whether they count, as many as the process with the most has.

    A process that has run out gives its last one again, uncounted. Raises DataError where it has none at all.
    """
    last: Batch | None = None
    of_rank = iter(batches)
    while True:
        batch = next(of_rank, None)
        has_one = torch.tensor(float(batch is not None), device=device)
        if world_size > 1:
            dist.all_reduce(has_one, op=dist.ReduceOp.MAX)
        if last is not None and not has_one:
            return
        last = batch if batch is not None else last
        if last is None:
            raise DataError(
                f"training: process {rank} of {world_size} has no batch, expected one or more for each. "
                "Train with fewer processes or smaller batches."
            )
        yield last, batch is not None
