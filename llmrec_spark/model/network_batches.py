"""What a network is trained on and scores: lists of ads with the history of who saw them, as tensors.

Ads are rows of an `AdTable`, so a batch is small and the text vectors stay where they are. `BatchSource` is the
contract with whatever reads the examples: a table's Arrow batches, or tensors in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from typing import Protocol, Self

import torch
from torch import Tensor

KINDS = ("skipped", "clicked", "bought", "searched")  # of behaviours; the place is the number in `Behaviours.kinds`
SKIPPED = KINDS.index("skipped")
TEXT_ROLES = ("clicks as one text", "skips as one text")  # of a history, in this order in `Batch.texts`


@dataclass(frozen=True)
class Moved:
    """Tensors, and parts that hold tensors, that go to a device, or into a file, together."""

    def to(self, device: torch.device | str) -> Self:
        """The same on another device."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        moved = {name: value.to(device) for name, value in values.items() if isinstance(value, Tensor | Moved)}
        return replace(self, **moved)

    def tensors(self) -> dict[str, Tensor]:
        """Every tensor by name, those of a part as part.name."""
        found: dict[str, Tensor] = {}
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            parts = {f"{name}.{of}": one for of, one in value.tensors().items()} if isinstance(value, Moved) else {}
            found |= parts or {name: value}
        return found


@dataclass(frozen=True)
class AdTable(Moved):
    """The ads and queries that batches name. V texts of width D, I items, N fields, M numbers."""

    vectors: Tensor  # (V, D) float32, unit length
    fields: Tensor  # (I, N) int64 into vectors; -1 where the item lacks the field
    numbers: Tensor  # (I, M) float32, standardised; M may be 0
    shares: Tensor  # (I,) float32 > 0: the item's share of all clicked behaviours, for the log-Q correction

    @classmethod
    def of(cls, vectors: Tensor, item_fields: Tensor, numbers: Tensor | None = None) -> AdTable:
        """A table without numbers, or with; every item is as common as any other."""
        items = len(item_fields)
        numbers = torch.zeros(items, 0) if numbers is None else numbers
        return cls(vectors, item_fields.long(), numbers, torch.full((items,), 1.0 / max(items, 1)))


@dataclass(frozen=True)
class Behaviours(Moved):
    """The last T behaviours of B users, oldest first, padded on the right; padding may hold any valid number."""

    items: Tensor  # (B, T) int64 into the table
    kinds: Tensor  # (B, T) int64 into KINDS
    residuals: Tensor  # (B, T) float32: 1 or 0 for a click or a skip, less the probability it was expected with
    age_days: Tensor  # (B, T) float32 >= 0, when the list is shown
    present: Tensor  # (B, T) bool
    hidden: Tensor  # (B, T) bool: which ad it was is not told to the network

    def taken(self, place: Tensor) -> Behaviours:
        """The behaviours in another order: place (B, T) int64 along T."""
        parts = {field.name: getattr(self, field.name).gather(1, place) for field in fields(self)}
        return Behaviours(**parts)

    def kept(self, keep: Tensor) -> Behaviours:
        """Only the behaviours where keep (B, T) is true, moved together to the left."""
        kept = self.present & keep
        order = torch.argsort((~kept).to(torch.uint8), dim=1, stable=True)
        return replace(self, present=kept).taken(order)


@dataclass(frozen=True)
class Batch(Moved):
    """B lists of at most K ads, padded on the right, with what is known of their users.

    Positions count from 1, 0 is unknown; offsets are the log-odds of a simpler ranker, at the first position.
    """

    examples: Tensor  # (B,) int64, the list's own number: it seeds what is drawn for it
    behaviours: Behaviours
    texts: Tensor  # (B, 2, D) float32: a language model's vectors, in order of TEXT_ROLES; 0: none
    items: Tensor  # (B, K) int64 into the table
    present: Tensor  # (B, K) bool
    positions: Tensor  # (B, K) int64
    offsets: Tensor  # (B, K) float32, of a click
    conversion_offsets: Tensor  # (B, K) float32, of a conversion given a click
    clicked: Tensor  # (B, K) bool
    converted: Tensor  # (B, K) bool, which says that it was clicked too
    conversion_known: Tensor  # (B, K) bool: the window of its conversions is over

    def rows(self, chosen: Tensor) -> Batch:
        """Some of the lists: chosen (n,) int64 or (B,) bool."""
        parts = {field.name: getattr(self, field.name) for field in fields(self)}
        behaviours = Behaviours(**{f.name: getattr(self.behaviours, f.name)[chosen] for f in fields(self.behaviours)})
        tensors = {name: value[chosen] for name, value in parts.items() if isinstance(value, Tensor)}
        return Batch(behaviours=behaviours, **tensors)

    @classmethod
    def of_tensors(cls, found: Mapping[str, Tensor]) -> Batch:
        """What `tensors` gave."""
        own = "behaviours."
        behaviours = {name.removeprefix(own): value for name, value in found.items() if name.startswith(own)}
        lists = {name: value for name, value in found.items() if not name.startswith(own)}
        return cls(behaviours=Behaviours(**behaviours), **lists)


class BatchSource(Protocol):
    """Gives the batches of one epoch that one of several processes trains on, again the same whenever it is asked.

    - Same (epoch, rank, world_size): same batches in the same order, in any process; a resumed training asks again and
      leaves out those it has seen.
    - The i-th batches of all ranks are one step. Together, the ranks give each example once. The loss of a step is a
      mean over all its examples, so parts need not be of one size.
    - Every rank has at least one batch; a rank that has fewer than another waits and adds nothing to the last steps.
    - `rank` is from 0 to world_size - 1; with world_size 1 one process gets everything.
    """

    def __call__(self, epoch: int, rank: int, world_size: int) -> Iterator[Batch]:
        """The batches, on the CPU."""


@dataclass(frozen=True)
class BatchAds(Moved):
    """The texts of a batch's ads, each once. V texts, B lists, K ads, T behaviours, N fields, M numbers."""

    vectors: Tensor  # (V, D) float32, at least one
    fields: Tensor  # (B, K, N) int64 into vectors, -1 for none
    numbers: Tensor  # (B, K, M) float32
    behaviour_fields: Tensor  # (B, T, N) int64
    behaviour_numbers: Tensor  # (B, T, M) float32
    behaviour_shares: Tensor  # (B, T) float32, of the table


def ads_of(batch: Batch, table: AdTable) -> BatchAds:
    """What the table says of the ads of a batch; both on the table's device."""
    of_ads = table.fields[batch.items].masked_fill(~batch.present[..., None], -1)  # (B, K, N)
    of_behaviours = table.fields[batch.behaviours.items].masked_fill(~batch.behaviours.present[..., None], -1)
    used, place = torch.unique(torch.cat([of_ads.flatten(), of_behaviours.flatten()]), return_inverse=True)
    if len(used) and used[0] < 0:  # sorted: what stands for no field comes first
        used, place = used[1:], place - 1
    vectors = table.vectors[used] if len(used) else table.vectors.new_zeros(1, table.vectors.shape[1])
    ads, behaviours = place.split([of_ads.numel(), of_behaviours.numel()])
    return BatchAds(
        vectors=vectors,
        fields=ads.view(of_ads.shape),
        numbers=table.numbers[batch.items],
        behaviour_fields=behaviours.view(of_behaviours.shape),
        behaviour_numbers=table.numbers[batch.behaviours.items],
        behaviour_shares=table.shares[batch.behaviours.items],
    )
