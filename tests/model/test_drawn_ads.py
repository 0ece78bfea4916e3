"""A ranker learns from acts alone: of each list one ad was acted on, the others were drawn by their popularity."""

import numpy as np
import pytest
import torch

from llmrec_spark.model.pair_features import EFFECT, SINGLE
from llmrec_spark.model.taste_gp import PaddedHistories, fitted_levels
from llmrec_spark.model.training_sample import Examples, ShownBefore
from tests.model.small_world import ADS, SETTINGS

LISTS, DRAWN, BEFORE, ACTIVE = 1_500, 8, 6, 2_000


@pytest.fixture(scope="module")
def lists():
    """Examples whose users act on ads by their popularity alone, and what they acted on before."""
    rng = np.random.default_rng(4)
    pull = rng.normal(0, 1.0, ADS)
    popularity = np.exp(pull) / np.exp(pull).sum()
    draw = popularity**0.75 / (popularity**0.75).sum()
    acted = rng.choice(ADS, LISTS, p=popularity)
    item = np.concatenate([acted[:, None], rng.choice(ADS, (LISTS, DRAWN), p=draw)], axis=1)
    place = np.tile(np.arange(1 + DRAWN), LISTS)
    kept = (place == 0) | (item.ravel() != np.repeat(acted, 1 + DRAWN))  # no draw is what was acted on
    number, item = np.repeat(np.arange(LISTS), 1 + DRAWN)[kept], item.ravel()[kept]
    clicked, nothing = place[kept] == 0, np.zeros(kept.sum())
    users = np.full(len(item), float(ACTIVE))
    examples = Examples(
        *(number, number, item, nothing + np.nan, clicked, 1.0 * clicked, users, np.round(ACTIVE * popularity)[item]),
        *(number < LISTS - 300, number >= LISTS - 300, np.log(draw)[item]),
    )
    before = rng.choice(ADS, LISTS * BEFORE, p=popularity)
    every = np.ones(len(before), dtype=bool)
    return examples, ShownBefore(before, every, every * np.nan, np.arange(LISTS + 1) * BEFORE, 1.0 * every)


def weight_of_effect(trained):
    return trained.ranker.rerank.linear.slopes[SINGLE.index(EFFECT)]


def test_an_effect_counts_in_full_though_popular_ads_are_drawn_more_often(lists, train):
    settings = SETTINGS.model_copy(update={"rerank": ("linear",), "effect_spread": 2.0})
    examples, before = lists
    assert weight_of_effect(train(settings, examples, before)) == pytest.approx(1.0, abs=0.2)
    as_if_shown = examples._replace(log_draw=0.0 * examples.log_draw)
    assert weight_of_effect(train(settings, as_if_shown, before)) < 0.5


def test_how_much_somebody_did_says_nothing_of_how_readily(lists, train):
    ranker = train(SETTINGS, *lists).ranker
    items = torch.tensor([[1, *[-1] * 29], list(range(30))])
    histories = PaddedHistories(items, (items >= 0).float(), torch.zeros(2, 30))
    torch.testing.assert_close(
        fitted_levels(histories, ranker.level), torch.full((2,), ranker.level.mean), atol=1e-3, rtol=0
    )
    assert ranker.level.mean == ranker.click.base
    assert not len(ranker.positions)
