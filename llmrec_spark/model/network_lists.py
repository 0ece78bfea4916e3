"""Lists with the histories of their users, padded -> batches of a network; the same in training and in scoring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import inf

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.network_batches import KINDS, TEXT_ROLES, AdTable, Batch, Behaviours
from llmrec_spark.model.pair_kernels import ItemFeatures

CLICKED = KINDS.index("clicked")


def ad_table(catalogue: Catalogue, features: ItemFeatures, clicks: np.ndarray) -> AdTable:
    """Every item of a catalogue with its texts and its columns; clicks (I,) say how common it is in histories."""
    shares = clicks + 1.0
    return AdTable(
        torch.as_tensor(np.array(catalogue.vectors, dtype=np.float32)),
        torch.as_tensor(np.array(catalogue.fields, dtype=np.int64)),
        torch.as_tensor(features.slope_table),
        torch.as_tensor((shares / shares.sum()).astype(np.float32)),
    )


def recent_behaviours(item: Tensor, clicked: Tensor, residual: Tensor, age_days: Tensor, *, longest: int) -> Behaviours:
    """The newest `longest` of (B, T) impressions in any order, item -1 pads: oldest first, padded on the right."""
    present = item >= 0
    key = torch.where(present, -age_days, inf)
    found = Behaviours(
        items=item.clamp(min=0),
        kinds=clicked.long() * CLICKED,
        residuals=residual.float(),
        age_days=age_days.float(),
        present=present,
        hidden=torch.zeros_like(present),
    ).taken(torch.argsort(key, dim=1, stable=True))
    place, count = torch.arange(item.shape[1]), present.sum(dim=1, keepdim=True)
    found = found.kept(place >= count - longest)
    width = int(found.present.sum(dim=1).max()) if len(item) and item.shape[1] else 0
    return found.taken(torch.arange(width).expand(len(item), -1))


def batch_of(
    examples: Tensor,
    behaviours: Behaviours,
    items: Tensor,
    *,
    text_width: int,
    texts: Tensor | None = None,
    positions: Tensor | None = None,
    clicked: Tensor | None = None,
    converted: Tensor | None = None,
    first: Tensor | None = None,
    conversions: Tensor | None = None,
) -> Batch:
    """B lists of items (B, K), -1 pads. What is not given is 0; converted (B, K) is NaN where nobody can say.

    texts (B, 2, D) are for a network that reads them
    """
    zero = torch.zeros(items.shape)
    bought = zero if converted is None else converted
    return Batch(
        examples=examples,
        behaviours=behaviours,
        texts=torch.zeros(len(items), len(TEXT_ROLES), text_width) if texts is None else texts,
        items=items.clamp(min=0),
        present=items >= 0,
        positions=zero.long() if positions is None else positions,
        offsets=zero if first is None else first.float(),
        conversion_offsets=zero if conversions is None else conversions.float(),
        clicked=zero.bool() if clicked is None else clicked,
        converted=bought.nan_to_num(0.0) > 0,
        conversion_known=~bought.isnan(),
    )


def read_texts(pair: Sequence[bytes | None] | None, *, width: int) -> np.ndarray:
    """(2, D) float32 in order of TEXT_ROLES, of bytes of a vector each, None where a history has no such text."""
    found = np.zeros((len(TEXT_ROLES), width), dtype=np.float32)
    for role, vector in enumerate(() if pair is None else pair):
        if vector is not None:
            found[role] = np.frombuffer(vector, dtype="<f4")
    return found


class ShuffledLists:
    """A BatchSource of lists in memory: in an order drawn anew for each epoch, each step dealt to the processes."""

    def __init__(self, batch: Batch, *, size: int, seed: int) -> None:
        self.batch, self.size, self.seed = batch, size, seed

    @property
    def steps(self) -> int:
        """Of an epoch."""
        return -(-len(self.batch.items) // self.size)

    def __call__(self, epoch: int, rank: int, world_size: int) -> Iterator[Batch]:
        """The batches of one process."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + epoch)
        for rows in torch.split(torch.randperm(len(self.batch.items), generator=generator), self.size):
            if len(rows[rank::world_size]):
                yield self.batch.rows(rows[rank::world_size])
