"""What each behaviour adds to a network's log-odds: by occlusion, exactly what the network says with and without it."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from llmrec_spark.model.network_batches import AdTable, Batch
from llmrec_spark.model.ranking_network import RankingNetwork, score_lists


class Contributions(NamedTuple):
    """Parts of the log-odds of a click at the first position: ranker + sum of behaviours + rest = log_odds.

    A history has S parts: the T behaviours, or the two texts of a network that reads histories as text.
    """

    log_odds: Tensor  # (B, K) float32
    behaviours: Tensor  # (B, S, K) float32: log-odds less those of the history without this one; 0 where there is none
    ranker: Tensor  # (B, K) float32: the simpler ranker's log-odds, the offset
    rest: Tensor  # (B, K) float32: what an empty history has, and what behaviours say only together


def occluded_contributions(network: RankingNetwork, batch: Batch, table: AdTable) -> Contributions:
    """The contributions of every behaviour to every ad of the batch; S + 1 readings of it.

    Without a behaviour means that the history closes up as if it had never been; the offset is not asked again.
    """
    log_odds = score_lists(network, batch, table).click  # (B, K)
    parts = []
    for one in range(parts_of(network, batch)):
        without, had_it = occluded(network, batch, one)
        change = log_odds - score_lists(network, without, table).click  # (B, K)
        parts.append(change * had_it[:, None])
    behaviours = torch.stack(parts, dim=1) if parts else log_odds.new_zeros(len(log_odds), 0, log_odds.shape[1])
    return Contributions(log_odds, behaviours, batch.offsets, log_odds - batch.offsets - behaviours.sum(dim=1))


def parts_of(network: RankingNetwork, batch: Batch) -> int:
    """S: how many parts of a history can be left out."""
    return batch.texts.shape[1] if network.shape.config.behaviours == "text" else batch.behaviours.present.shape[1]


def occluded(network: RankingNetwork, batch: Batch, one: int) -> tuple[Batch, Tensor]:
    """The batch without one part of each history, and who had it, (B,) bool."""
    if network.shape.config.behaviours == "text":
        texts = batch.texts.clone()
        texts[:, one] = 0.0
        return replace(batch, texts=texts), (batch.texts[:, one] != 0).any(dim=-1)
    keep = torch.ones_like(batch.behaviours.present)
    keep[:, one] = False
    return replace(batch, behaviours=batch.behaviours.kept(keep)), batch.behaviours.present[:, one]
