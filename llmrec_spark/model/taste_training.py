"""Examples -> a TasteRanker: effects and their priors, kernel weights, calibration. On arrays, in one process."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from llmrec_spark.model.ad_reader import Names, fit_ad_reader
from llmrec_spark.model.calibration import calibrated, conversion_effects
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
from llmrec_spark.model.item_effect import Impressions, fit_item_effects
from llmrec_spark.model.kernel_groups import COLUMNS, without_groups
from llmrec_spark.model.network_lists import ad_table
from llmrec_spark.model.network_training import LearnNetwork, learn_network
from llmrec_spark.model.rerank_training import learn_reranker, teaching_lists
from llmrec_spark.model.taste_gp import Level, learn_theta
from llmrec_spark.model.taste_ranker import TasteRanker
from llmrec_spark.model.training_sample import Examples, ShownBefore, Totals
from llmrec_spark.ranker_config import RankerConfig

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
    conversion, bought = learn_effect_model(totals.settled, totals.conversions, known, spread=settings.effect_spread)
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
        p_conversion=None,
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
    of_ad = conversion_effects(ranker, known, bought, examples, totals)
    ranker = calibrated(ranker, scored, examples, of_ad, settings.calibration)
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
