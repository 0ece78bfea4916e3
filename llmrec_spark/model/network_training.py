"""Lists -> the network of a reranker, trained on top of effects and tastes: by this process, or by several.

Several read what they learn from in one folder, as safetensors and JSON, and the first leaves there what they learned.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor

from llmrec_spark.errors import ConfigError
from llmrec_spark.model.example_scores import additions
from llmrec_spark.model.losses import list_loss
from llmrec_spark.model.network_batches import AdTable, Batch
from llmrec_spark.model.network_lists import ShuffledLists
from llmrec_spark.model.ranking_network import NetworkShape, RankingNetwork, load_network, new_network, save_network
from llmrec_spark.model.training import Trained, train
from llmrec_spark.model.whole_folder import whole_folder
from llmrec_spark.network_config import NetworkConfig, TrainingSettings

LISTS_OF_A_STEP = 64
CHECKPOINTS = "network-"  # begins the name of a folder of them
LEARNED = "learned"


class NetworkTask(NamedTuple):
    """All that a network is learned from: the same task gives the same network."""

    batch: Batch
    table: AdTable
    config: NetworkConfig
    settings: TrainingSettings
    learns: Tensor  # numbers of the lists that it learns from
    judges: Tensor  # of those that say when to stop; may be none
    code: str = ""  # digest of the code that learns

    @property
    def tensors(self) -> dict[str, Tensor]:
        """Everything but config and settings, by name."""
        parts = {"batch": self.batch.tensors(), "table": self.table.tensors()}
        named = {f"{part}/{name}": one for part, tensors in parts.items() for name, one in tensors.items()}
        return {**named, "learns": self.learns, "judges": self.judges}

    @property
    def digest(self) -> str:
        """16 hex digits of all of it but where its checkpoints are."""
        digest = hashlib.sha256(f"{self.code} {LISTS_OF_A_STEP} {self.config.model_dump_json()}".encode())
        digest.update(self.settings.model_dump_json(exclude={"folder"}).encode())
        for name, one in sorted(self.tensors.items()):
            digest.update(f"{name} {one.dtype} {tuple(one.shape)}".encode() + np.ascontiguousarray(one).tobytes())
        return digest.hexdigest()[:16]

    @property
    def checkpoints(self) -> Path | None:
        """Their folder: one for each task in that of the settings, so that no other task goes on from them."""
        folder = self.settings.folder
        return Path(folder) / f"{CHECKPOINTS}{self.digest}" if folder is not None else None

    def save(self, folder: Path) -> None:
        """Writes it into a folder that is there."""
        save_file({name: one.contiguous() for name, one in self.tensors.items()}, folder / "lists.safetensors")
        named = {"config": self.config.model_dump(mode="json"), "settings": self.settings.model_dump(mode="json")}
        (folder / "task.json").write_text(json.dumps(named | {"code": self.code}), encoding="utf-8")


LearnNetwork = Callable[[NetworkTask], Trained]


def load_task(folder: Path) -> NetworkTask:
    """What NetworkTask.save wrote."""
    named, tensors = json.loads((folder / "task.json").read_bytes()), load_file(folder / "lists.safetensors")
    batch, table = (
        {name.removeprefix(part): one for name, one in tensors.items() if name.startswith(part)}
        for part in ("batch/", "table/")
    )
    return NetworkTask(
        Batch.of_tensors(batch),
        AdTable(**table),
        NetworkConfig.model_validate(named["config"]),
        TrainingSettings.model_validate(named["settings"]),
        tensors["learns"],
        tensors["judges"],
        named["code"],
    )


def learn_network(task: NetworkTask, *, rank: int = 0, world_size: int = 1, gpu: int = 0) -> Trained:
    """A network from the lists that learn, stopped where those that judge say so; on the CPU when it is learned.

    Goes on from the checkpoints of the same task. Of several processes, each as model/training.train says. Raises
    ConfigError where the GPU that is asked for is not there.
    """
    batch, table, config, settings, learns, judges, _ = task
    if settings.device == "cuda" and torch.cuda.device_count() <= gpu:
        raise ConfigError(
            f"ranker.learning.device: is cuda, and torch finds {torch.cuda.device_count()} GPUs here; expected "
            f"{gpu + 1} or more. Set it to cpu, or run where there are GPUs."
        )
    device = f"cuda:{gpu}" if settings.device == "cuda" else "cpu"
    shape = NetworkShape(
        config=config, text_width=table.vectors.shape[1], fields=table.fields.shape[1], numbers=table.numbers.shape[1]
    )
    network = new_network(shape, seed=settings.seed)
    source = ShuffledLists(batch.rows(learns), size=LISTS_OF_A_STEP, seed=settings.seed)
    held, ads = batch.rows(judges).to(device), table.to(device)

    def validate(one: RankingNetwork) -> float:
        return -float(list_loss(held.offsets + additions(one, held, ads), held.clicked, held.present))

    found = train(
        network,
        source,
        ads,
        settings,
        steps_per_epoch=source.steps,
        list_loss=list_loss,
        validate=validate if len(judges) else None,
        folder=task.checkpoints,
        rank=rank,
        world_size=world_size,
        device=device,
    )
    found.network.to("cpu")
    return found


def learn_beside_others(folder: str) -> None:
    """What each process that torchrun started does with the task in `folder`; the first one writes what was learned."""
    task, rank, world_size = load_task(Path(folder)), int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    dist.init_process_group("nccl" if task.settings.device == "cuda" else "gloo")
    try:
        found = learn_network(task, rank=rank, world_size=world_size, gpu=int(os.environ["LOCAL_RANK"]))
    finally:
        dist.destroy_process_group()
    if rank == 0:
        with whole_folder(Path(folder) / LEARNED) as new:
            save_network(found.network, new)
            (new / "progress.json").write_text(json.dumps(_progress(found)), encoding="utf-8")


def read_learned(folder: Path) -> Trained:
    """What learn_beside_others left in `folder`."""
    told: dict[str, Any] = json.loads((folder / LEARNED / "progress.json").read_bytes())
    told |= {name: tuple(one) for name, one in told.items() if isinstance(one, list)}
    return Trained(load_network(folder / LEARNED), **told)


def _progress(found: Trained) -> dict[str, Any]:
    return {name: getattr(found, name) for name in Trained.__dataclass_fields__ if name != "network"}
