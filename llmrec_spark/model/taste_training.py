"""Examples -> a TasteRanker: effects and their priors, kernel weights, calibration. On arrays, in one process."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.ad_reader import Names, fit_ad_reader
from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.count_effects import count_effects, learn_effect_model
from llmrec_spark.model.item_effect import Impressions, fit_item_effects, sigmoid
from llmrec_spark.model.pair_kernels import ItemFeatures, KernelStack, pair_kernels
from llmrec_spark.model.taste_gp import (
    Kernels,
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
from llmrec_spark.model.taste_ranker import TasteRanker
from llmrec_spark.model.training_sample import Examples, ShownBefore, Totals
from llmrec_spark.ranker_config import RankerConfig

LARGEST_STACK = 2**28  # numbers of every kernel of every pair, 1 GB; more are worked out list by list
NEWTON_STEPS = 50
FLAT = 0.0  # of a kernel's ln weight, until it is learned


class Scored(NamedTuple):
    """What a ranker says of n examples with what was known before each, (n,)."""

    log_odds: np.ndarray  # at the first position
    effect: np.ndarray  # of the ad
    taste: np.ndarray


class Trained(NamedTuple):
    """A ranker, and what it says of every example, those that it learned from too."""

    ranker: TasteRanker
    scored: Scored
    bought: np.ndarray  # (n,) p_conversion of each example
    losses: list[float]  # of each step that learned the weights of kernels


def train_taste_ranker(
    catalogue: Catalogue,
    fields: tuple[str, ...],
    columns: np.ndarray,
    names: Names,
    examples: Examples,
    before: ShownBefore,
    totals: Totals,
    settings: RankerConfig,
) -> Trained:
    """Learns from the examples that train, and calibrates on those held back for it, or else on the same.

    columns (I, M + G) as catalogue.ad_numbers has them, NaN for queries too. The effect of an ad in an example is what
    its counts before said, and the prior of that is of other ads: no row is told its own click.
    """
    reader = fit_ad_reader(catalogue, fields, columns, names=names, rank=settings.text_rank)
    features = reader.features(catalogue, columns)
    known = reader.prior_features(features)
    click, priors = learn_effect_model(totals.shown, totals.clicks, known, spread=settings.effect_spread)
    conversion, _ = learn_effect_model(totals.settled, totals.conversions, known, spread=settings.effect_spread)
    positions, level = learn_positions(examples, priors, settings.effect_spread)
    lookup = pair_lookup(features)
    ranker = TasteRanker(
        reader=reader,
        theta=dict.fromkeys(features.names, FLAT),
        click=click,
        conversion=conversion,
        positions=positions,
        level=level,
        p_click=(1.0, 0.0, 1.0),
        p_conversion=(conversion.base, 1.0, 0.0),
    )
    offset = count_effects(examples.shown, examples.clicks, priors[examples.item], base=click.base, spread=click.spread)
    histories = padded_histories(before, _history_offset(ranker, features, totals, before))
    lists, _ = padded_lists(examples, offset + ranker.position(examples.position))
    chosen = training_lists(examples, lists, histories, count=settings.kernel_lists, seed=settings.seed)
    losses: list[float] = []
    theta = learn_theta(
        histories.part(chosen),
        lists.part(chosen),
        lookup,
        level,
        count=len(features.names),
        seed=settings.seed,
        losses=losses,
    )
    ranker = replace(ranker, theta=dict(zip(features.names, theta.tolist(), strict=True)))
    scored = score_examples(ranker, features, examples, before, totals, lookup)
    judged = examples.calibrates if examples.calibrates.any() else examples.trains
    bought = (examples.trains | examples.calibrates) & ~np.isnan(examples.converted) & examples.clicked
    of_ad = conversion.effects(known, totals.settled, totals.conversions)[examples.item]
    moved = ranker.position(examples.position) - ranker.position(np.ones(1))
    intercept, slope, of_position = logistic(
        np.column_stack([scored.log_odds, moved])[judged], examples.clicked[judged], start=(0.0, 1.0, 1.0)
    )
    p_conversion = logistic(
        np.column_stack([of_ad, scored.taste])[bought], examples.converted[bought], start=(conversion.base, 1.0, 0.0)
    )
    ranker = replace(ranker, p_click=(slope, intercept, of_position), p_conversion=tuple(p_conversion))
    return Trained(ranker, scored, ranker.conversions(of_ad, scored.taste), losses)


def score_examples(
    ranker: TasteRanker,
    features: ItemFeatures,
    examples: Examples,
    before: ShownBefore,
    totals: Totals,
    lookup: Kernels | None = None,
) -> Scored:
    """What the ranker says of every example; `totals` are what is known of the ads of histories."""
    prior = ranker.click.prior.predict(ranker.reader.prior_features(features))[examples.item]
    effect = count_effects(examples.shown, examples.clicks, prior, base=ranker.click.base, spread=ranker.click.spread)
    histories = padded_histories(before, _history_offset(ranker, features, totals, before))
    lists, at = padded_lists(examples, effect)
    kernels, theta = lookup or pair_lookup(features), np.log(ranker.weights(features))
    weights = alphas(histories, kernels, theta, ranker.level)
    taste = taste_of_lists(weights, histories.item, lists.item, kernels, theta)[at]
    levels = fitted_levels(histories, ranker.level).double().numpy()[examples.list]
    return Scored(levels + ranker.position(np.ones(1)) + effect + taste, effect, taste)


def _history_offset(ranker: TasteRanker, features: ItemFeatures, totals: Totals, before: ShownBefore) -> np.ndarray:
    """(m,) what people at large make of an ad at its place."""
    effects = ranker.click.effects(ranker.reader.prior_features(features), totals.shown, totals.clicks)
    return np.asarray(effects[before.item] + ranker.position(before.position))


def learn_positions(examples: Examples, priors: np.ndarray, spread: float) -> tuple[np.ndarray, Level]:
    """c of each position, (P,), and the prior of users' levels, from the examples that are learned from.

    A row without a position counts as of none: c is then 0.
    """
    learns = examples.trains
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
    """`count` lists that teach: clicked and unclicked ads, something known of the user, of those that train.

    In random order, again and again where they are fewer.
    """
    trains = torch.zeros(len(lists.item), dtype=torch.bool)
    trains[torch.as_tensor(examples.list[examples.trains])] = True
    present = lists.item >= 0
    mixed = (lists.clicked & present).any(dim=1) & (~lists.clicked & present).any(dim=1)
    known = (histories.item >= 0).any(dim=1)
    usable = (mixed & known & trains).nonzero()[:, 0]
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // max(len(usable), 1)) if len(usable) else 0
    orders = [torch.randperm(len(usable), generator=generator) for _ in range(rounds)]
    return usable[torch.cat(orders)[:count]] if orders else usable


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
