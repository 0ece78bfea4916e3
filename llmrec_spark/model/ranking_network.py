"""The network that ranks the best ads of each user, on top of a simpler ranker: lists and histories -> log-odds."""

from __future__ import annotations

from pathlib import Path

import torch
from pydantic import BaseModel, ConfigDict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llmrec_spark.errors import ModelError
from llmrec_spark.model.behaviour_networks import AdNetwork, TargetAttention, behaviour_encoder
from llmrec_spark.model.heads import HeadLogits, Heads
from llmrec_spark.model.network_batches import AdTable, Batch, BatchAds, ads_of
from llmrec_spark.network_config import NetworkConfig

SHAPE, WEIGHTS = "network.json", "network.safetensors"


class NetworkShape(BaseModel):
    """All that a network is besides its weights; the pair rebuilds it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    config: NetworkConfig
    text_width: int  # D, of the text vectors
    fields: int  # N, of an ad
    numbers: int  # M, of an ad


class RankingNetwork(nn.Module):
    """Lists of ads with histories -> log-odds. New, it gives the offsets exactly: a warm start."""

    def __init__(self, shape: NetworkShape) -> None:
        super().__init__()
        config, width = shape.config, shape.config.width
        self.shape = shape
        self.ads = AdNetwork(config, shape.text_width, shape.fields, shape.numbers)
        self.history = behaviour_encoder(config)
        self.norm = nn.LayerNorm(width)
        self.attention = TargetAttention(config)
        self.body = nn.Sequential(
            nn.Dropout(config.dropout),
            nn.Linear(3 * width, width),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(width, width),
            nn.GELU(),
        )
        self.heads = Heads(width + 6 * config.heads, config.max_position)  # signals reach them directly too

    def forward(self, batch: Batch, ads: BatchAds, positions: Tensor | None = None) -> HeadLogits:
        """B lists of K ads -> (B, K) log-odds. positions (B, K) in training; None: at the first position."""
        candidates = self.norm(self.ads(ads.vectors, ads.fields, ads.numbers))  # (B, K, W)
        behaviours = self.ads(ads.vectors, ads.behaviour_fields, ads.behaviour_numbers)  # (B, T, W)
        encoded = self.history(behaviours, batch.behaviours, self.ads.project(batch.texts))
        context, signals = self.attention(candidates, encoded)  # (B, K, W), (B, K, 6 H)
        mixed = self.body(torch.cat([candidates, context, candidates * context], dim=-1))  # (B, K, W)
        x = torch.cat([mixed, signals], dim=-1)
        return self.heads(x, batch.offsets, batch.conversion_offsets, positions)  # type: ignore[no-any-return]


def new_network(shape: NetworkShape, *, seed: int) -> RankingNetwork:
    """A network whose first weights follow from the seed; the random numbers of others are left alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RankingNetwork(shape)


@torch.inference_mode()
def score_lists(network: RankingNetwork, batch: Batch, table: AdTable) -> HeadLogits:
    """Log-odds of every ad of the batch at the first position, (B, K); batch and table on the network's device."""
    was_training = network.training
    logits: HeadLogits = network.eval()(batch, ads_of(batch, table))
    network.train(was_training)
    return logits


def save_network(network: RankingNetwork, folder: Path) -> None:
    """Writes network.json and network.safetensors into a folder that is there."""
    (folder / SHAPE).write_text(network.shape.model_dump_json(indent=2), encoding="utf-8")
    save_file({name: value.clone().contiguous() for name, value in network.state_dict().items()}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod(0o644)  # safetensors lets only the owner read


def load_network(folder: Path, *, device: str = "cpu") -> RankingNetwork:
    """The network of a folder, ready to score. Raises ModelError where it cannot be one."""
    try:
        shape = NetworkShape.model_validate_json((folder / SHAPE).read_bytes())
        network = RankingNetwork(shape)
        network.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"network {folder}: cannot be opened ({reason}). Train it again.") from error
    return network.eval().to(device)
