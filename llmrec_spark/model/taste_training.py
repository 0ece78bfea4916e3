"""Examples -> a TasteRanker: effects and their priors, kernel weights, calibration. On arrays, in one process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.ad_reader import Names, fit_ad_reader
from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.count_effects import count_effects, learn_effect_model
from llmrec_spark.model.example_scores import (
    Scored,
    history_offset,
    list_offset,
    padded_histories,
    padded_lists,
    pair_lookup,
    score_tasted,
    tasted,
)
from llmrec_spark.model.isotonic import isotonic_knots
from llmrec_spark.model.item_effect import Impressions, fit_item_effects, sigmoid
from llmrec_spark.model.kernel_groups import COLUMNS, without_groups
from llmrec_spark.model.network_lists import ad_table
from llmrec_spark.model.network_training import LearnNetwork, learn_network
from llmrec_spark.model.rerank_training import learn_reranker, teaching_lists
from llmrec_spark.model.taste_gp import Level, learn_theta
from llmrec_spark.model.taste_ranker import P_CLICK, P_CONVERSION, TasteRanker
from llmrec_spark.model.training_sample import Examples, ShownBefore, Totals
from llmrec_spark.ranker_config import RankerConfig

NEWTON_STEPS = 50
ONE_LEVEL = 1e-3  # standard deviation of users' levels where none is learned, in log-odds
FLAT = 0.0  # of a kernel's ln weight, until it is learned


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
    without: Collection[str] = (),
    learn: LearnNetwork = learn_network,
) -> Trained:
    """Learns from the examples that train, and calibrates on those held back for it, or else on the same.

    columns (I, M + G) as catalogue.ad_numbers has them, NaN for queries too. The effect of an ad in an example is what
    its counts before said, and the prior of that is of other ads: no row is told its own click.
    `without` names kernel_groups that tastes are not made of, to see what these bring: not for a ranker that is kept.
    `learn` learns the network of a reranker, in this process or in several.
    """
    reader = fit_ad_reader(catalogue, fields, columns, names=names, rank=settings.text_rank)
    features = reader.features(catalogue, columns)
    known = reader.prior_features(features)
    click, priors = learn_effect_model(totals.shown, totals.clicks, known, spread=settings.effect_spread)
    conversion, _ = learn_effect_model(totals.settled, totals.conversions, known, spread=settings.effect_spread)
    if examples.were_drawn:  # acts alone do not say how readily their user acts
        positions, level = np.zeros(0), Level(click.base, ONE_LEVEL)
    else:
        positions, level = learn_positions(examples, priors, settings.effect_spread)
    lookup = without_groups(pair_lookup(features), features.names, without)
    ranker = TasteRanker(
        reader=reader,
        theta=dict.fromkeys(features.names, FLAT),
        click=click,
        conversion=conversion,
        positions=positions,
        level=level,
        p_click=(1.0, 0.0, 1.0, 1.0),
        p_conversion=(conversion.base, 1.0, 0.0),
    )
    offset = count_effects(examples.shown, examples.clicks, priors[examples.item], base=click.base, spread=click.spread)
    histories = padded_histories(before, history_offset(ranker, features, totals, before))
    lists, _ = padded_lists(examples, offset + list_offset(ranker, examples))
    teaching = teaching_lists(examples.list[examples.trains], lists, histories)
    chosen = drawn(teaching, count=settings.kernel_lists, seed=settings.seed)
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
    given = tasted(ranker, features, examples, before, totals, lookup, others=priors)
    if COLUMNS in without:
        features = features._replace(slopes={name: 0.0 * one for name, one in features.slopes.items()})
    table = ad_table(catalogue, features, totals.clicks)
    if settings.rerank:
        ranker = replace(ranker, rerank=learn_reranker(ranker, given, features, table, examples, settings, learn))
    scored = score_tasted(ranker, features, table, examples, given)
    judged = examples.calibrates if examples.calibrates.any() else examples.trains
    bought = (examples.trains | examples.calibrates) & ~np.isnan(examples.converted) & examples.clicked
    of_ad = conversion.effects(known, totals.settled, totals.conversions)[examples.item]
    place = ranker.position(examples.position) - ranker.position(np.ones(1))
    intercept, slope, of_position, of_rerank = logistic(
        np.column_stack([scored.log_odds - scored.moved, place, scored.moved])[judged],
        examples.clicked[judged],
        start=(0.0, 1.0, 1.0, 1.0),
    )
    p_conversion = logistic(
        np.column_stack([of_ad, scored.taste])[bought], examples.converted[bought], start=(conversion.base, 1.0, 0.0)
    )
    ranker = replace(ranker, p_click=(slope, intercept, of_position, of_rerank), p_conversion=tuple(p_conversion))
    if settings.calibration == "isotonic" and examples.calibrates.any():
        held, known = examples.calibrates, examples.calibrates & bought
        p_click = ranker.clicks(scored.log_odds[held], examples.position[held], moved=scored.moved[held])
        p_bought = ranker.conversions(of_ad[known], scored.taste[known])
        curves = {
            P_CLICK: isotonic_knots(p_click, examples.clicked[held]),
            P_CONVERSION: isotonic_knots(p_bought, examples.converted[known] > 0),
        }
        ranker = replace(ranker, curves=curves)
    return Trained(ranker, scored, ranker.conversions(of_ad, scored.taste), losses)


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


def drawn(usable: Tensor, *, count: int, seed: int) -> Tensor:
    """`count` of the lists in random order, again and again where they are fewer."""
    generator = torch.Generator().manual_seed(seed)
    rounds = -(-count // max(len(usable), 1)) if len(usable) else 0
    orders = [torch.randperm(len(usable), generator=generator) for _ in range(rounds)]
    return usable[torch.cat(orders)[:count]] if orders else usable


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
