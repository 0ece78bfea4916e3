"""What a trained ranker says of examples: their tastes, their features, their scores. On arrays, in one process."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.count_effects import count_effects
from llmrec_spark.model.network_batches import AdTable, Batch
from llmrec_spark.model.network_lists import ad_table, batch_of, recent_behaviours
from llmrec_spark.model.pair_features import compared_kernels, padded_pairs, pair_features
from llmrec_spark.model.pair_kernels import ItemFeatures, KernelStack, pair_kernels
from llmrec_spark.model.ranking_network import RankingNetwork, score_lists
from llmrec_spark.model.taste_gp import (
    Kernels,
    Level,
    PaddedHistories,
    PaddedLists,
    alphas,
    fitted_levels,
    padded,
    place_within,
    residuals,
    taste_of_lists,
)
from llmrec_spark.model.taste_ranker import TasteRanker
from llmrec_spark.model.training_sample import Examples, ShownBefore, Totals
from llmrec_spark.network_config import NetworkConfig

LARGEST_STACK = 2**28  # numbers of every kernel of every pair, 1 GB; more are worked out list by list
LISTS_AT_ONCE = 64


class Scored(NamedTuple):
    """What a ranker says of n examples with what was known before each, (n,)."""

    log_odds: np.ndarray  # at the first position
    effect: np.ndarray  # of the ad
    taste: np.ndarray
    score: np.ndarray  # what orders the ads of a list: effect + taste, or what the reranker makes of them
    moved: np.ndarray  # score - effect - taste: what the reranker adds
    steps: Mapping[str, np.ndarray]  # of a reranker: the scores that it adds, by name


class Tasted(NamedTuple):
    """n examples as L lists of at most C, with the effect and the taste of each ad."""

    histories: PaddedHistories
    lists: PaddedLists  # offset: the effect
    at: tuple[np.ndarray, np.ndarray]  # where each example stands in the lists
    effect: np.ndarray  # (n,)
    taste: np.ndarray  # (L, C)
    age_days: Tensor  # (L, T) of the histories
    texts: Tensor | None  # (L, 2, D) of the histories, where a network may read them
    lookup: Kernels

    @property
    def first(self) -> Tensor:
        """effect + taste, (L, C) float64; padded places hold any numbers."""
        return self.lists.offset.double() + torch.as_tensor(self.taste)


def score_examples(
    ranker: TasteRanker,
    catalogue: Catalogue,
    features: ItemFeatures,
    examples: Examples,
    before: ShownBefore,
    totals: Totals,
) -> Scored:
    """What the ranker says of every example; `totals` are what is known of the ads of histories."""
    given = tasted(ranker, features, examples, before, totals, pair_lookup(features))
    table = ad_table(catalogue, features, totals.clicks)
    return score_tasted(ranker, features, table, examples, given)


def score_tasted(
    ranker: TasteRanker, features: ItemFeatures, table: AdTable, examples: Examples, given: Tasted
) -> Scored:
    """The same, of what `tasted` gave."""
    taste = given.taste[given.at]
    levels = fitted_levels(given.histories, ranker.level).double().numpy()[examples.list]
    first = score = given.effect + taste
    steps: Mapping[str, np.ndarray] = {}
    if ranker.rerank is not None:
        steps = _reranked(ranker, given, features, table, examples)
        is_known = (given.histories.item >= 0).any(dim=1).numpy()[examples.list]
        score = np.where(is_known, ranker.rerank.together(steps), first)
    return Scored(levels + ranker.position(np.ones(1)) + score, given.effect, taste, score, score - first, steps)


def tasted(
    ranker: TasteRanker,
    features: ItemFeatures,
    examples: Examples,
    before: ShownBefore,
    totals: Totals,
    lookup: Kernels,
    *,
    others: np.ndarray | None = None,
) -> Tasted:
    """What was known before each list, and what effect and taste make of it.

    others (I,) is what other items say of each: the prior of examples that train, whose clicks the ranker's own knows
    """
    prior = ranker.click.prior.predict(ranker.reader.prior_features(features))[examples.item]
    if others is not None:
        prior = np.where(examples.trains, others[examples.item], prior)
    effect = count_effects(examples.shown, examples.clicks, prior, base=ranker.click.base, spread=ranker.click.spread)
    histories = padded_histories(before, history_offset(ranker, features, totals, before))
    lists, at = padded_lists(examples, effect)
    theta = np.log(ranker.weights(features))
    weights = alphas(histories, lookup, theta, ranker.level)
    taste = taste_of_lists(weights, histories.item, lists.item, lookup, theta)
    texts = None if before.texts is None else torch.as_tensor(before.texts)
    return Tasted(histories, lists, at, effect, taste, padded_ages(before), texts, lookup)


def _reranked(
    ranker: TasteRanker, given: Tasted, features: ItemFeatures, table: AdTable, examples: Examples
) -> dict[str, np.ndarray]:
    """The scores that a reranker adds, of every example."""
    assert ranker.rerank is not None
    added = network_additions(ranker.rerank.network, ranker, given, examples, table)
    found: dict[str, list[np.ndarray]] = {}
    start = 0
    for values in list_features(given, features, ranker.level):
        rows = slice(start, start + len(values))
        first, start = given.first[rows], rows.stop
        of_network = None if added is None else added[rows].reshape(-1).double().numpy()
        of_rows = ranker.rerank.scores(first.reshape(-1).numpy(), values.flatten(0, 1).numpy(), of_network)
        for name, one in of_rows.items():
            found.setdefault(name, []).append(one.reshape(first.shape))
    return {name: np.concatenate(of_lists)[given.at] for name, of_lists in found.items()}


def list_offset(ranker: TasteRanker, examples: Examples) -> np.ndarray:
    """(n,) what makes an ad of a list the clicked one there, and is no matter of the ad: its position, or its draw.

    Among an ad acted on and others drawn beside it, the likelier one is to be drawn, the less it says to be there.
    """
    return np.asarray(ranker.position(examples.position) - examples.log_draw)


def network_additions(
    network: RankingNetwork | None, ranker: TasteRanker, given: Tasted, examples: Examples, table: AdTable
) -> Tensor | None:
    """(L, C) what a network adds to effect + taste; None without one."""
    if network is None:
        return None
    shape = network.shape
    return additions(network, network_batch(ranker, given, examples, shape.config, text_width=shape.text_width), table)


@torch.no_grad()
def list_features(given: Tasted, features: ItemFeatures, level: Level) -> Iterator[Tensor]:
    """(B, C, P) as pair_features has them, of LISTS_AT_ONCE lists after the others."""
    compared, columns = compared_kernels(features.names), torch.as_tensor(features.slope_table)
    taste = torch.as_tensor(given.taste).float()
    for start in range(0, len(taste), LISTS_AT_ONCE):
        rows = slice(start, start + LISTS_AT_ONCE)
        known, asked = given.histories.part(rows), given.lists.part(rows)
        stack = given.lookup(known.item, asked.item)[..., compared]
        yield pair_features(padded_pairs(known, asked, taste[rows], stack, columns, level))


def network_batch(
    ranker: TasteRanker, given: Tasted, examples: Examples, reads: NetworkConfig, *, text_width: int
) -> Batch:
    """Every list of the examples; the offsets are what effect, taste and level say at the first position."""
    if reads.behaviours == "text" and given.texts is None:
        raise ValueError("a network of behaviours: text is given no texts of histories")
    histories, lists = given.histories, given.lists
    levels = fitted_levels(histories, ranker.level)
    behaviours = recent_behaviours(
        histories.item,
        histories.clicked > 0.5,
        residuals(histories, levels),
        given.age_days,
        longest=reads.max_behaviours,
    )
    place = np.nan_to_num(examples.position, nan=0.0).astype(np.int64)
    count = len(lists.item)
    [positions] = padded(examples.list, count, (place,), (0,))
    [converted] = padded(examples.list, count, (examples.converted,), (0.0,))
    [drawn] = padded(examples.list, count, (-examples.log_draw,), (0.0,))
    first = given.first + levels.double()[:, None] + float(ranker.position(np.ones(1))[0]) + drawn
    return batch_of(
        torch.arange(count),
        behaviours,
        lists.item,
        text_width=text_width,
        texts=given.texts if reads.behaviours == "text" else None,
        positions=positions,
        clicked=lists.clicked,
        converted=converted,
        first=first,
        conversions=torch.full(lists.item.shape, ranker.conversion.base),
    )


def additions(network: RankingNetwork, batch: Batch, table: AdTable) -> Tensor:
    """What the network adds to the offsets, (B, K) float32."""
    found = [
        score_lists(network, part, table).click - part.offsets
        for part in (batch.rows(rows) for rows in torch.split(torch.arange(len(batch.items)), LISTS_AT_ONCE))
    ]
    return torch.cat(found) if found else batch.offsets


def history_offset(ranker: TasteRanker, features: ItemFeatures, totals: Totals, before: ShownBefore) -> np.ndarray:
    """(m,) what people at large make of an ad at its place."""
    effects = ranker.click.effects(ranker.reader.prior_features(features), totals.shown, totals.clicks)
    return np.asarray(effects[before.item] + ranker.position(before.position))


def padded_histories(before: ShownBefore, offset: np.ndarray) -> PaddedHistories:
    """(L, T) what was shown before each list; an item without a record pads too."""
    kept = before.item >= 0
    owner = np.repeat(np.arange(len(before.offsets) - 1), np.diff(before.offsets))[kept]
    values = (before.item[kept], before.clicked[kept].astype(np.float32), offset[kept].astype(np.float32))
    return PaddedHistories(*padded(owner, len(before.offsets) - 1, values, (-1, 0.0, 0.0)))


def padded_ages(before: ShownBefore) -> Tensor:
    """(L, T) beside padded_histories."""
    kept = before.item >= 0
    owner = np.repeat(np.arange(len(before.offsets) - 1), np.diff(before.offsets))[kept]
    [ages] = padded(owner, len(before.offsets) - 1, (before.age_days[kept],), (0.0,))
    return ages


def padded_lists(examples: Examples, offset: np.ndarray) -> tuple[PaddedLists, tuple[np.ndarray, np.ndarray]]:
    """(L, C) the shown ads of each list, and where each example stands there."""
    lists = int(examples.list.max(initial=-1)) + 1
    values = (examples.item, examples.clicked, offset.astype(np.float32))
    at = (examples.list, place_within(examples.list))
    return PaddedLists(*padded(examples.list, lists, values, (-1, False, 0.0))), at


def pair_lookup(features: ItemFeatures) -> Kernels:
    """Kernels of items rows (B, T) and columns (B, C), (B, T, C, F): looked up, or worked out where they are many."""
    items = len(next(iter(features.dense.values())))
    if items**2 * len(features.names) <= LARGEST_STACK:
        return KernelStack(features)

    def worked_out(rows: Tensor, columns: Tensor) -> Tensor:
        found = [
            torch.as_tensor(pair_kernels(features, np.maximum(row, 0), np.maximum(column, 0)))
            for row, column in zip(rows.numpy(), columns.numpy(), strict=True)
        ]
        return torch.stack(found).permute(0, 2, 3, 1)

    return worked_out
