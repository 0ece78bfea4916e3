"""A module trained over epochs of batches, by one process or several, so that a kill in between changes nothing.

What a step does follows from settings, data and the step's place: its dropout is seeded by seed, process, phase, epoch
and batch, its augmentation by each example's number, its learning rate by its count. Weights, moments of the optimizer
and that place are all a checkpoint needs; on a CPU the result is the same to the bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW

from llmrec_spark.errors import ModelError
from llmrec_spark.model.history_augmentation import augmented
from llmrec_spark.model.network_batches import AdTable, Batch, BatchSource, Behaviours, ads_of
from llmrec_spark.model.training_checkpoint import Checkpoint, Progress, restore_moments, save_checkpoint
from llmrec_spark.model.training_steps import aligned, backward, decayed_groups, learning_rate_factor
from llmrec_spark.network_config import TrainingSettings

PHASES = ("pretraining", "training")


@dataclass(frozen=True)
class Run:
    """What the phases of a training share, on this process."""

    source: BatchSource
    table: AdTable  # on the device
    settings: TrainingSettings
    steps_per_epoch: int
    folder: Path | None  # of checkpoints
    begun_with: dict[str, Any]  # a checkpoint of anything else is refused
    rank: int
    world_size: int
    device: str


@dataclass(frozen=True)
class Phase:
    """What is trained, and for how long."""

    name: str  # one of PHASES
    objective: nn.Module  # an Objective, holding the network
    network: nn.Module  # whose best weights are kept
    epochs: int
    learning_rate: float
    hide: Callable[[Behaviours, Tensor, int], Behaviours]  # (histories, examples, epoch): what the objective hides
    validate: Callable[[], float] | None  # larger is better; asked on process 0


def fit(phase: Phase, run: Run, progress: Progress, checkpoint: Checkpoint | None) -> dict[str, Tensor] | None:
    """Trains from where `progress` stands, which it moves on; the network's best weights, None without a validation."""
    objective, best = phase.objective.to(run.device), None
    optimizer = AdamW(decayed_groups(objective, run.settings.weight_decay), lr=phase.learning_rate)
    if checkpoint is not None:
        objective.load_state_dict(checkpoint.weights)
        restore_moments(checkpoint.moments, objective, optimizer)
        best = checkpoint.best
    stepped = objective
    if run.world_size > 1:
        stepped = DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
    while not progress.done:
        batches = run.source(progress.epoch, run.rank, run.world_size)
        together = aligned(batches, rank=run.rank, world_size=run.world_size, device=run.device)
        for number, (batch, counts) in enumerate(together):
            if number < progress.batch:
                continue  # done before the kill
            progress.loss += step(stepped, optimizer, phase, run, progress, batch, counts=counts)
            progress.batch, progress.step = progress.batch + 1, progress.step + 1
            if progress.step % run.settings.checkpoint_steps == 0:
                _save(phase, run, progress, optimizer, best)
        if end_epoch(phase, run, progress):
            best = {name: value.detach().clone() for name, value in phase.network.state_dict().items()}
        _save(phase, run, progress, optimizer, best)
    return best


def step(
    stepped: nn.Module, optimizer: AdamW, phase: Phase, run: Run, progress: Progress, batch: Batch, *, counts: bool
) -> float:
    """One step; returns the mean loss over the examples of all processes, before it. Raises ModelError for NaN."""
    settings, steps = run.settings, phase.epochs * run.steps_per_epoch
    rate = phase.learning_rate * learning_rate_factor(progress.step, steps=steps, warmup_share=settings.warmup_share)
    for group in optimizer.param_groups:
        group["lr"] = rate
    seeded_epoch = progress.epoch - (phase.epochs if phase.name == "pretraining" else 0)  # below 0: draws of its own
    behaviours = augmented(
        batch.behaviours, batch.examples, settings.augmentation, seed=settings.seed, epoch=seeded_epoch
    )
    behaviours = phase.hide(behaviours, batch.examples, seeded_epoch)
    batch = replace(batch, behaviours=behaviours).to(run.device)
    torch.manual_seed(seed_of(settings.seed, run.rank, phase.name, progress.epoch, progress.batch))
    stepped.train()
    optimizer.zero_grad()
    loss = backward(
        stepped,
        batch,
        ads_of(batch, run.table),
        counts=counts,
        adversarial=settings.adversarial,
        mixed_precision=settings.mixed_precision,
        world_size=run.world_size,
    )
    if not isfinite(loss):
        raise ModelError(
            f"{phase.name}: the loss is {loss} in epoch {progress.epoch}, step {progress.batch}. Check the batch for "
            "NaN, or lower ranker.learning.learning_rate."
        )
    if settings.clip_norm is not None:
        nn.utils.clip_grad_norm_(stepped.parameters(), settings.clip_norm)
    optimizer.step()
    return loss


def end_epoch(phase: Phase, run: Run, progress: Progress) -> bool:
    """Closes an epoch: its losses, its validation, whether it was the last. True where the network is the best yet."""
    losses = progress.losses if phase.name == "training" else progress.pretraining_losses
    losses.append(progress.loss / max(progress.batch, 1))
    progress.loss, progress.batch, progress.epoch = 0.0, 0, progress.epoch + 1
    progress.done = progress.epoch >= phase.epochs
    if phase.validate is None:
        return False
    progress.validations.append(validation(phase.validate, phase.network, run))
    waited = len(progress.validations) - 1 - (progress.best_epoch or 0)
    if run.settings.patience is not None and waited >= run.settings.patience:
        progress.done = True
    return waited == 0


def validation(validate: Callable[[], float], network: nn.Module, run: Run) -> float:
    """What process 0 finds of the network in eval mode; every process is told. Raises ModelError for NaN."""
    value = torch.zeros((), dtype=torch.float64 if run.device == "cpu" else torch.float32, device=run.device)
    if run.rank == 0:
        network.eval()
        value.fill_(validate())
    if run.world_size > 1:
        dist.broadcast(value, src=0)
    if not isfinite(float(value)):
        raise ModelError(
            f"training: the validation is {float(value)}, expected a number. Check the validation's lists."
        )
    return float(value)


def seed_of(*place: int | str) -> int:
    """A seed of 63 bits that follows from what is given."""
    return int.from_bytes(hashlib.sha256(repr(place).encode()).digest()[:8], "little") >> 1


def _save(phase: Phase, run: Run, progress: Progress, optimizer: AdamW, best: dict[str, Tensor] | None) -> None:
    if run.folder is not None and run.rank == 0:
        save_checkpoint(run.folder, progress, phase.objective, optimizer, best, begun_with=run.begun_with)
