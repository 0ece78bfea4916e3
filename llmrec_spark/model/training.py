"""A ranking network trained: first on histories alone, if asked, then on what was shown and clicked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from llmrec_spark.errors import ModelError
from llmrec_spark.model.network_batches import AdTable, Batch, BatchAds, BatchSource
from llmrec_spark.model.network_losses import ListLoss, Term, network_terms
from llmrec_spark.model.pretraining import HistoryObjective
from llmrec_spark.model.ranking_network import RankingNetwork
from llmrec_spark.model.training_checkpoint import Checkpoint, Progress, newest_checkpoint
from llmrec_spark.model.training_loop import Phase, Run, fit, seed_of
from llmrec_spark.network_config import TrainingSettings

Validate = Callable[[RankingNetwork], float]
"""How good a network is, larger is better. Asked after each epoch on process 0 alone, the network in eval mode."""


@dataclass(frozen=True)
class Trained:
    """A network at its best validation, or at its end where there is none, and how it came there."""

    network: RankingNetwork
    losses: tuple[float, ...]  # mean training loss of each epoch
    pretraining_losses: tuple[float, ...]
    validations: tuple[float, ...]  # after each epoch
    best_epoch: int | None  # counted from 0
    steps: int  # without those of the pre-training


class RankingObjective(nn.Module):
    """The loss of a network's two probabilities and of its order, at the positions where the ads were shown."""

    def __init__(self, network: RankingNetwork, list_loss: ListLoss | None, list_share: float) -> None:
        super().__init__()
        self.network, self.list_loss, self.list_share = network, list_loss, list_share

    def forward(self, batch: Batch, ads: BatchAds) -> list[tuple[float, Term]]:
        """Each term with its weight."""
        logits = self.network(batch, ads, batch.positions)
        return network_terms(logits, batch, list_loss=self.list_loss, list_share=self.list_share)


def train(
    network: RankingNetwork,
    source: BatchSource,
    table: AdTable,
    settings: TrainingSettings,
    *,
    steps_per_epoch: int,
    list_loss: ListLoss | None = None,
    validate: Validate | None = None,
    folder: Path | None = None,
    rank: int = 0,
    world_size: int = 1,
    device: str = "cpu",
) -> Trained:
    """Trains a new network in place; goes on where a killed training with the same arguments was, given its `folder`.

    steps_per_epoch shapes the learning rate alone: a guess will do, the same each time. With world_size > 1
    torch.distributed is initialised, and every process calls this with its rank, the same first weights and one shared
    `folder`, which process 0 writes; each returns the same.
    """
    if world_size > 1 and (dist.get_rank(), dist.get_world_size()) != (rank, world_size):
        raise ValueError(f"rank {rank} of {world_size}, expected {dist.get_rank()} of {dist.get_world_size()}")
    begun_with = {
        "settings": settings.model_dump(mode="json", exclude={"folder"}),
        "network": network.shape.model_dump(mode="json"),
        "steps_per_epoch": steps_per_epoch,
        "processes": world_size,
    }
    network.to(device)
    run = Run(source, table.to(device), settings, steps_per_epoch, folder, begun_with, rank, world_size, device)
    if world_size > 1:
        dist.barrier()  # process 0 may still be writing what another training of this group was killed at
    checkpoint = newest_checkpoint(folder, begun_with=begun_with) if folder else None
    _check_one_place(checkpoint, run)
    with torch.random.fork_rng(devices=[torch.device(device)] if device.startswith("cuda") else []):
        progress = checkpoint.progress if checkpoint else Progress(phase="pretraining")
        if progress.phase == "pretraining":
            if settings.pretraining.objective != "none":
                _pretrain(network, run, progress, checkpoint)
            progress, checkpoint = Progress("training", pretraining_losses=progress.pretraining_losses), None
        phase = Phase(
            name="training",
            objective=RankingObjective(network, list_loss, settings.list_share),
            network=network,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            hide=lambda behaviours, _examples, _epoch: behaviours,
            validate=(lambda: validate(network)) if validate else None,
        )
        best = fit(phase, run, progress, checkpoint)
    if best is not None:
        network.load_state_dict(best)
    return Trained(
        network.eval(),
        tuple(progress.losses),
        tuple(progress.pretraining_losses),
        tuple(progress.validations),
        progress.best_epoch,
        progress.step,
    )


def _pretrain(network: RankingNetwork, run: Run, progress: Progress, checkpoint: Checkpoint | None) -> None:
    """Trains the parts of the network that read ads and histories on the histories of the batches."""
    settings = run.settings.pretraining
    torch.manual_seed(seed_of(run.settings.seed, "pretraining"))  # of the objective's own layer
    objective = HistoryObjective(network, settings)
    phase = Phase(
        name="pretraining",
        objective=objective,
        network=network,
        epochs=settings.epochs,
        learning_rate=settings.learning_rate,
        hide=lambda behaviours, examples, epoch: objective.hide(
            behaviours, examples, seed=run.settings.seed, epoch=epoch
        ),
        validate=None,
    )
    fit(phase, run, progress, checkpoint)


def _check_one_place(checkpoint: Checkpoint | None, run: Run) -> None:
    """Raises ModelError unless all processes go on from the same step."""
    if run.world_size == 1:
        return
    step = -1 if checkpoint is None else checkpoint.progress.step
    ends = torch.tensor([step, -step], device=run.device)
    dist.all_reduce(ends, op=dist.ReduceOp.MAX)
    if int(ends[0]) != -int(ends[1]):
        raise ModelError(
            f"checkpoint {run.folder}: the processes find steps {-int(ends[1])} to {int(ends[0])}, expected one for "
            "all. Give them one shared folder."
        )
