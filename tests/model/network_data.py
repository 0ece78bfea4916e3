"""Small lists with histories for the tests of networks: random ones, and ones in which a taste is planted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.model.network_batches import AdTable, Batch, Behaviours
from llmrec_spark.model.ranking_network import NetworkShape, RankingNetwork, new_network
from llmrec_spark.network_config import NetworkConfig

WIDTH, FIELDS, NUMBERS = 8, 3, 2  # D, N, M
ITEMS = 40


def ad_table(seed: int = 0) -> AdTable:
    """40 ads whose texts, of width 8, are near one of two opposite topics: even ads and odd ads; ad 0 has no text."""
    draw = torch.Generator().manual_seed(seed)
    topic = torch.where(torch.arange(ITEMS) % 2 == 0, 1.0, -1.0)
    vectors = 0.3 * torch.randn(ITEMS, FIELDS, WIDTH, generator=draw)
    vectors[..., 0] += topic[:, None]
    item_fields = torch.arange(ITEMS * FIELDS).view(ITEMS, FIELDS)
    item_fields[1::3, 2] = -1
    item_fields[0] = -1
    numbers = torch.randn(ITEMS, NUMBERS, generator=draw)
    table = AdTable.of(F.normalize(vectors.flatten(0, 1), dim=-1), item_fields, numbers)
    shares = torch.rand(ITEMS, generator=draw) + 0.1
    return replace(table, shares=shares / shares.sum())


def lists(count: int, *, ads: int = 6, behaviours: int = 5, seed: int = 0) -> Batch:
    """People who click even ads alone, or odd ones; of these, positive first numbers convert. User 0 is cold."""
    draw = torch.Generator().manual_seed(seed)

    def integers(low: int, high: int, *shape: int) -> Tensor:
        return torch.randint(low, high, shape, generator=draw)

    likes = integers(0, 2, count, 1)  # the parity that a user clicks
    met = integers(1, ITEMS, count, behaviours)
    length = integers(1, behaviours + 1, count, 1)
    length[0] = 0
    items = integers(1, ITEMS, count, ads)
    present = torch.arange(ads) < integers(2, ads + 1, count, 1)
    clicked = (items % 2 == likes) & present
    return Batch(
        examples=torch.arange(count) + 1_000 * seed,
        behaviours=Behaviours(
            items=met,
            kinds=(met % 2 == likes).long(),  # clicked or skipped
            residuals=(met % 2 == likes).float() - 0.5,
            age_days=torch.rand(count, behaviours, generator=draw).mul(30).sort(dim=1, descending=True).values,
            present=torch.arange(behaviours) < length,
            hidden=torch.zeros(count, behaviours, dtype=torch.bool),
        ),
        texts=torch.randn(count, 2, WIDTH, generator=draw),
        items=items,
        present=present,
        positions=torch.arange(1, ads + 1).expand(count, -1).contiguous(),
        offsets=torch.randn(count, ads, generator=draw) * 0.1,
        conversion_offsets=torch.full((count, ads), -1.0),
        clicked=clicked,
        converted=clicked & (ad_table().numbers[items, 0] > 0),
        conversion_known=torch.rand(count, ads, generator=draw) < 0.9,
    )


def tiny_network(behaviours: str = "transformer", *, seed: int = 1, **changes: object) -> RankingNetwork:
    """A network of width 8 without dropout, unless `changes` says otherwise."""
    config = NetworkConfig.model_validate(
        {"behaviours": behaviours, "width": 8, "heads": 2, "dropout": 0.0, "max_position": 4, **changes}
    )
    return new_network(NetworkShape(config=config, text_width=WIDTH, fields=FIELDS, numbers=NUMBERS), seed=seed)


def woken(network: RankingNetwork, seed: int = 2) -> RankingNetwork:
    """The network with random numbers instead of the zeros it starts with, so that everything matters."""
    draw = torch.Generator().manual_seed(seed)
    for value in network.parameters():
        if not value.any():
            value.data = torch.randn(value.shape, generator=draw)
    network.heads.position.weight.data[1] = 0.0
    return network.eval()


class Lists:
    """A BatchSource of lists in memory: shuffled by epoch, cut into steps, each step dealt to the processes."""

    def __init__(self, batch: Batch, size: int, *, breaks_at: int | None = None) -> None:
        self.batch, self.size, self.breaks_at, self.read = batch, size, breaks_at, 0

    @property
    def steps(self) -> int:
        return -(-len(self.batch.items) // self.size)

    def __call__(self, epoch: int, rank: int, world_size: int) -> Iterator[Batch]:
        order = torch.randperm(len(self.batch.items), generator=torch.Generator().manual_seed(epoch))
        for rows in order.split(self.size):
            if self.read == self.breaks_at:
                raise KeyboardInterrupt
            self.read += 1
            if len(rows[rank::world_size]):
                yield self.batch.rows(rows[rank::world_size])


def padded(batch: Batch, ads: int, behaviours: int) -> Batch:
    """The batch with that much more padding on the right, filled with what must not matter."""
    of_lists = {"items", "present", "positions", "offsets", "conversion_offsets", "clicked", "converted"}
    of_lists.add("conversion_known")

    def longer(value: Tensor, by: int, is_mask: bool) -> Tensor:
        return F.pad(value, (0, by), value=0 if is_mask else 1)

    histories = {f.name: getattr(batch.behaviours, f.name) for f in fields(Behaviours)}
    history = Behaviours(**{name: longer(value, behaviours, name == "present") for name, value in histories.items()})
    lists_ = {name: longer(getattr(batch, name), ads, name == "present") for name in of_lists}
    return replace(batch, behaviours=history, **lists_)
