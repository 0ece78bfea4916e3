"""Where a training was, as a folder that is there whole or not at all: safetensors and JSON.

step-0000001234/
    progress.json            Progress, and what the training was begun with
    objective.safetensors    weights
    optimizer.safetensors    moments of AdamW, as parameter/moment
    best.safetensors         weights of the network at its best validation; only once there was one

The learning rate follows from the step, and the random numbers from seed, process and step, so neither is stored.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim import Optimizer

from llmrec_spark.errors import ModelError
from llmrec_spark.model.whole_folder import whole_folder


@dataclass
class Progress:
    """How far a training has come, and what it saw on the way."""

    phase: str  # pretraining or training
    epoch: int = 0  # being read
    batch: int = 0  # steps of this epoch that are done
    step: int = 0  # steps of this phase that are done
    loss: float = 0.0  # sum over this epoch's steps
    losses: list[float] = field(default_factory=list)  # mean of each training epoch
    pretraining_losses: list[float] = field(default_factory=list)
    validations: list[float] = field(default_factory=list)  # after each training epoch
    done: bool = False

    @property
    def best_epoch(self) -> int | None:
        """The first with the largest validation; None without any."""
        return self.validations.index(max(self.validations)) if self.validations else None


@dataclass(frozen=True)
class Checkpoint:
    """What a training goes on from."""

    progress: Progress
    weights: dict[str, Tensor]
    moments: dict[str, Tensor]
    best: dict[str, Tensor] | None


def save_checkpoint(
    folder: Path,
    progress: Progress,
    objective: nn.Module,
    optimizer: Optimizer,
    best: dict[str, Tensor] | None,
    *,
    begun_with: dict[str, Any],
) -> None:
    """Writes the newest checkpoint in `folder` and then removes the older ones, and what killed writers left."""
    name = f"step-{0 if progress.phase == 'pretraining' else 1}{progress.step:010d}"
    with whole_folder(folder / name) as new:
        save_file(_apart(objective.state_dict()), new / "objective.safetensors")
        save_file(optimizer_moments(objective, optimizer), new / "optimizer.safetensors")
        if best is not None:
            save_file(_apart(best), new / "best.safetensors")
        text = json.dumps({"begun_with": begun_with, "progress": asdict(progress)}, indent=1)
        (new / "progress.json").write_text(text, encoding="utf-8")
    remove_checkpoints(folder, but=name)


def remove_checkpoints(folder: Path, *, but: str | None = None) -> None:
    """Removes the checkpoints in `folder`, and what killed writers left; nothing else."""
    for other in folder.glob("*step-*"):
        if other.name != but and other.name.startswith(("step-", ".step-")):
            shutil.rmtree(other)


def newest_checkpoint(folder: Path, *, begun_with: dict[str, Any]) -> Checkpoint | None:
    """What is in `folder`; None where a training begins there. Raises ModelError where another one did."""
    found = sorted(folder.glob("step-*"))
    if not found:
        return None
    newest = found[-1]
    try:
        said = json.loads((newest / "progress.json").read_bytes())
        best = newest / "best.safetensors"
        checkpoint = Checkpoint(
            Progress(**said["progress"]),
            load_file(newest / "objective.safetensors"),
            load_file(newest / "optimizer.safetensors"),
            load_file(best) if best.exists() else None,
        )
        before = said["begun_with"]
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"checkpoint {newest}: cannot be read ({reason}). Remove {folder} to begin again.") from error
    differs = sorted(key for key in before.keys() | begun_with.keys() if before.get(key) != begun_with.get(key))
    if differs:
        raise ModelError(
            f"checkpoint {newest}: begun with other {', '.join(differs)} than now. Give them again as they were, or "
            f"remove {folder} to begin again."
        )
    return checkpoint


def optimizer_moments(module: nn.Module, optimizer: Optimizer) -> dict[str, Tensor]:
    """The state of the optimizer by name: parameter/moment."""
    return {
        f"{name}/{moment}": value.detach().contiguous()
        for name, parameter in module.named_parameters()
        for moment, value in optimizer.state.get(parameter, {}).items()
    }


def restore_moments(moments: dict[str, Tensor], module: nn.Module, optimizer: Optimizer) -> None:
    """Puts the stored state back, each moment on the device of its parameter; the count of steps stays on the CPU."""
    named = dict(module.named_parameters())
    for key, value in moments.items():
        name, _, moment = key.rpartition("/")
        optimizer.state[named[name]][moment] = value if moment == "step" else value.to(named[name].device)


def _apart(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies: on a GPU the weights of an LSTM share memory, which safetensors refuses."""
    return {name: value.detach().clone().contiguous() for name, value in state.items()}
