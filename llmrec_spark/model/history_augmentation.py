"""Histories varied: cropped, masked, reordered (Xie et al. 2022, Contrastive Learning for Sequential Recommendation).

What is drawn for an example follows from its number, the seed and the epoch alone: not from its batch, nor from the
process that reads it, nor from how often a training was killed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.network_batches import Behaviours
from llmrec_spark.network_config import AugmentationSettings

CROP, MASK, REORDER, HIDE = range(4)  # what a number is drawn for


def augmented(
    behaviours: Behaviours, examples: Tensor, settings: AugmentationSettings, *, seed: int, epoch: int
) -> Behaviours:
    """The histories as one epoch sees them; examples (B,) int64. A share of 0 leaves its step out."""
    if settings.reorder:
        behaviours = reordered(behaviours, settings.reorder, draws(examples, behaviours, REORDER, seed, epoch))
    if settings.crop:
        behaviours = cropped(behaviours, settings.crop, draws(examples, behaviours, CROP, seed, epoch)[:, 0])
    if settings.mask:
        behaviours = hidden(behaviours, settings.mask, draws(examples, behaviours, MASK, seed, epoch))
    return behaviours


def draws(examples: Tensor, behaviours: Behaviours, purpose: int, seed: int, epoch: int) -> Tensor:
    """Uniform numbers in [0, 1), (B, 1 + T) float64, by SplitMix64 (Steele et al. 2014) of all that is given."""
    count = behaviours.items.shape[1] + 1
    key = examples.cpu().numpy().astype(np.uint64)
    for part in (seed, epoch, purpose):
        key = _mixed(key ^ _mixed(np.full_like(key, part & 0xFFFF_FFFF_FFFF_FFFF)))
    bits = _mixed(key[:, None] + np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))  # (B, 1 + T)
    return torch.from_numpy((bits >> np.uint64(11)).astype(np.float64) / 2.0**53).to(examples.device)


def _mixed(x: np.ndarray) -> np.ndarray:
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(x ^ (x >> np.uint64(31)))


def cropped(behaviours: Behaviours, share: float, draw: Tensor) -> Behaviours:
    """A window of ceil((1 - share) n) of each user's n behaviours, from a place drawn by draw (B,) in [0, 1)."""
    length = behaviours.present.sum(dim=1)  # (B,)
    window = torch.ceil((1.0 - share) * length).long()
    start = (draw * (length - window + 1)).long()
    place = torch.arange(behaviours.present.shape[1], device=draw.device)  # (T,)
    return behaviours.kept((place >= start[:, None]) & (place < (start + window)[:, None]))


def hidden(behaviours: Behaviours, probability: float, draw: Tensor) -> Behaviours:
    """Each behaviour keeps its type and age; with this probability, by draw (B, 1 + T), not which ad it was."""
    return replace(behaviours, hidden=behaviours.hidden | (behaviours.present & (draw[:, 1:] < probability)))


def reordered(behaviours: Behaviours, share: float, draw: Tensor) -> Behaviours:
    """In a window of floor(share n) behaviours all but the ages changes places, by draw (B, 1 + T)."""
    length = behaviours.present.sum(dim=1)  # (B,)
    window = torch.floor(share * length).long()
    start = (draw[:, 0] * (length - window + 1)).long()
    place = torch.arange(behaviours.present.shape[1], device=draw.device).expand(behaviours.present.shape)  # (B, T)
    inside = (place >= start[:, None]) & (place < (start + window)[:, None])
    key = torch.where(inside, start[:, None] + draw[:, 1:] * window[:, None].clamp(min=1), place.double())
    moved = behaviours.taken(torch.argsort(key, dim=1, stable=True))
    return replace(moved, age_days=behaviours.age_days)
