"""Examples -> a TasteRanker: effects and their priors, kernel weights, calibration. On arrays, in one process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.ad_reader import fit_ad_reader, stacked
from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.count_effects import count_effects, learn_effect_model
from llmrec_spark.model.item_effect import Impressions, fit_item_effects, sigmoid
from llmrec_spark.model.pair_kernels import ItemFeatures, KernelStack, pair_kernels
from llmrec_spark.model.taste_gp import (
    Level,
    PaddedHistories,
    PaddedLists,
    alphas,
    fitted_levels,
    learn_theta,
    padded,
    place_within,
    taste_of_lists,
)
from llmrec_spark.model.taste_ranker import TasteRanker, by_position

LARGEST_STACK = 2**28  # numbers of every kernel of every pair, 1 GB; more are worked out list by list
NEWTON_STEPS = 50


class TasteSettings(NamedTuple):
    """What is not learned."""

    effect_spread: float = 0.6  # prior standard deviation of an ad's effect, log-odds
    rank: int = 150  # of what is known of an ad before anyone has met it
    lists: int = 2_400  # that kernel weights are learned from, one step for 32
    seed: int = 1


class Examples(NamedTuple):
    """n shown ads, list after list; a list has one history. Item -1 (an ad without a record) must not be among them."""

    list: np.ndarray  # (n,) int, codes from 0, ascending
    user: np.ndarray  # (n,) int, codes from 0
    item: np.ndarray  # (n,) int of the catalogue
    position: np.ndarray  # (n,) float from 1, NaN where unknown
    clicked: np.ndarray  # (n,) bool
    converted: np.ndarray  # (n,) float: 1, 0, NaN while nobody can say
    shown: np.ndarray  # (n,) of the ad, before
    clicks: np.ndarray  # (n,) of the ad, before
    held_back: np.ndarray  # (n,) bool: for calibration


class ShownBefore(NamedTuple):
    """What each of L lists' users was shown before, flat: list l owns rows offsets[l] to offsets[l + 1]."""

    item: np.ndarray  # (m,) int, -1 without a record
    clicked: np.ndarray  # (m,) bool
    position: np.ndarray  # (m,) float from 1, NaN where unknown
    offsets: np.ndarray  # (L + 1,)


class Trained(NamedTuple):
    """A ranker, and what it says of every example (n,): of those not held back with what was known before."""

    ranker: TasteRanker
    log_odds: np.ndarray  # at the position it was shown
    taste: np.ndarray


def train_taste_ranker(
    catalogue: Catalogue,
    fields: tuple[str, ...],
    columns: Mapping[str, np.ndarray],
    examples: Examples,
    before: ShownBefore,
    settings: TasteSettings,
) -> Trained:
    """Learns from the examples that are not held back, and calibrates on those that are.

    columns (I,) by name, NaN where unknown. The effect of an ad in an example is what its counts before said, and the
    prior of that is of other ads: no row is told its own click.
    """
    reader = fit_ad_reader(catalogue, fields, columns, rank=settings.rank)
    features = reader.features(catalogue, stacked(columns, len(catalogue.fields)))
    known, totals = reader.prior_features(features), item_totals(examples, len(catalogue.fields))
    click, priors = learn_effect_model(totals.shown, totals.clicks, known, spread=settings.effect_spread)
    conversion, _ = learn_effect_model(totals.settled, totals.conversions, known, spread=settings.effect_spread)
    positions, level = learn_positions(examples, priors, settings.effect_spread)
    offset = count_effects(examples.shown, examples.clicks, priors[examples.item], base=click.base, spread=click.spread)
    of_items = click.effects(known, totals.shown, totals.clicks)
    histories = padded_histories(before, of_items[before.item] + by_position(positions, before.position))
    lists, at = padded_lists(examples, offset + by_position(positions, examples.position))
    kernels = pair_lookup(features)
    chosen = training_lists(examples, lists, histories, count=settings.lists, seed=settings.seed)
    theta = learn_theta(
        histories.part(chosen), lists.part(chosen), kernels, level, count=len(features.names), seed=settings.seed
    )
    taste = taste_of_lists(alphas(histories, kernels, theta, level), histories.item, lists.item, kernels, theta)[at]
    levels = fitted_levels(histories, level).double().numpy()[examples.list]
    log_odds = levels + by_position(positions, examples.position) + offset + taste
    judged = examples.held_back if examples.held_back.any() else np.ones(len(taste), dtype=bool)
    bought = ~np.isnan(examples.converted) & examples.clicked
    of_ad = conversion.effects(known, totals.settled, totals.conversions)[examples.item]
    ranker = TasteRanker(
        reader=reader,
        theta=dict(zip(features.names, theta.tolist(), strict=True)),
        click=click,
        conversion=conversion,
        positions=positions,
        level=level,
        p_click=tuple(logistic(log_odds[judged, None], examples.clicked[judged], start=(0.0, 1.0))[::-1]),
        p_conversion=tuple(
            logistic(
                np.column_stack([of_ad, taste])[bought], examples.converted[bought], start=(conversion.base, 1.0, 0.0)
            )
        ),
    )
    return Trained(ranker, log_odds, taste)


class Totals(NamedTuple):
    """Sums of the examples that are learned from, (I,) each."""

    shown: np.ndarray
    clicks: np.ndarray
    settled: np.ndarray  # clicks of which it is known whether they led to a conversion
    conversions: np.ndarray


def item_totals(examples: Examples, items: int) -> Totals:
    """Of every item of the catalogue."""
    learns = ~examples.held_back
    item, clicked = examples.item[learns], examples.clicked[learns].astype(np.float64)
    converted = examples.converted[learns]
    settled = clicked * ~np.isnan(converted)
    parts = (np.ones(len(item)), clicked, settled, settled * np.nan_to_num(converted))
    return Totals(*(np.bincount(item, one, items) for one in parts))


def learn_positions(examples: Examples, priors: np.ndarray, spread: float) -> tuple[np.ndarray, Level]:
    """c of each position, (P,), and the prior of users' levels, from the examples that are learned from.

    A row without a position counts as of none: c is then 0.
    """
    learns = ~examples.held_back
    place = np.nan_to_num(examples.position[learns], nan=0.0).astype(np.int64)
    shown = Impressions(examples.user[learns], examples.item[learns], place, examples.clicked[learns])
    users, positions = int(examples.user.max(initial=-1)) + 1, int(place.max(initial=0)) + 1
    found = fit_item_effects(shown, priors, np.full(len(priors), spread), users=users, positions=positions)
    return found.position[1:], Level(found.mean_level)


def padded_histories(before: ShownBefore, offset: np.ndarray) -> PaddedHistories:
    """(L, T) what was shown before each list; an item without a record pads too."""
    kept = before.item >= 0
    owner = np.repeat(np.arange(len(before.offsets) - 1), np.diff(before.offsets))[kept]
    values = (before.item[kept], before.clicked[kept].astype(np.float32), offset[kept].astype(np.float32))
    return PaddedHistories(*padded(owner, len(before.offsets) - 1, values, (-1, 0.0, 0.0)))


def padded_lists(examples: Examples, offset: np.ndarray) -> tuple[PaddedLists, tuple[np.ndarray, np.ndarray]]:
    """(L, C) the shown ads of each list, and where each example stands there."""
    lists = int(examples.list.max(initial=-1)) + 1
    values = (examples.item, examples.clicked, offset.astype(np.float32))
    at = (examples.list, place_within(examples.list))
    return PaddedLists(*padded(examples.list, lists, values, (-1, False, 0.0))), at


def training_lists(
    examples: Examples, lists: PaddedLists, histories: PaddedHistories, *, count: int, seed: int
) -> Tensor:
    """`count` lists that teach: clicked and unclicked ads, something known of the user, not held back.

    In random order, again and again where they are fewer.
    """
    held_back = torch.zeros(len(lists.item), dtype=torch.bool)
    held_back[torch.as_tensor(examples.list[examples.held_back])] = True
    present = lists.item >= 0
    mixed = (lists.clicked & present).any(dim=1) & (~lists.clicked & present).any(dim=1)
    known = (histories.item >= 0).any(dim=1)
    usable = (mixed & known & ~held_back).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // max(len(usable), 1)) if len(usable) else 0
    orders = [torch.randperm(len(usable), generator=generator) for _ in range(rounds)]
    return usable[torch.cat(orders)[:count]] if orders else usable


def pair_lookup(features: ItemFeatures) -> Callable[[Tensor, Tensor], Tensor]:
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


def logistic(features: np.ndarray, target: np.ndarray, *, start: tuple[float, ...]) -> np.ndarray:
    """Intercept and weights of a logistic regression, features (n, P): Newton steps from and towards `start`.

    One example's worth of belief in `start` keeps a target of one kind finite.
    """
    design = np.column_stack([np.ones(len(features)), features])
    weights, first = np.array(start, dtype=np.float64), np.array(start, dtype=np.float64)
    for _ in range(NEWTON_STEPS):
        p = sigmoid(design @ weights)
        gradient = design.T @ (target - p) - (weights - first)
        hessian = (design * (p * (1.0 - p))[:, None]).T @ design + np.eye(len(weights))
        step = np.linalg.solve(hessian, gradient)
        weights = weights + np.clip(step, -2.0, 2.0)
        if np.abs(step).max() < 1e-9:
            break
    return weights
