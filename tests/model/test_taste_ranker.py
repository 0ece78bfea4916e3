"""A ranker is trained on a small world of two kinds of ads and of users who like one, and scores the next day."""

import json

import numpy as np
import pytest
import torch

from llmrec_spark.model.ad_reader import Names
from llmrec_spark.model.count_effects import count_effects, learn_effect_model
from llmrec_spark.model.example_scores import pair_lookup
from llmrec_spark.model.pair_kernels import pair_kernels
from llmrec_spark.model.taste_ranker import by_position, open_taste_ranker
from llmrec_spark.model.taste_reranking import terms_of
from llmrec_spark.model.taste_training import train_taste_ranker
from llmrec_spark.model.training_sample import ShownBefore
from tests.model.small_world import ADS, NOBODY, SETTINGS, SHOWN, ads_of, requests, sigmoid, totals_of, with_tastes


@pytest.fixture(scope="module")
def ads(trained, world, log, tmp_path_factory):
    """The ads of the day after."""
    return ads_of(trained[0].ranker, world, log, tmp_path_factory.mktemp("run"))


def log_odds(ads, tastes, *, block=0, block_ads=ADS):
    """Of a block of ads, by the table of pairs."""
    live = ads.catalogue.live[block * block_ads : (block + 1) * block_ads]
    return ads.log_odds(tastes.level, live, ads.block(tastes, block, block_ads))


def test_users_are_shown_the_kind_they_like(ads, log):
    _, kind, likes, _ = log
    batch = with_tastes(ads, requests(log, range(30)))
    taste = ads.block(ads.read(batch), 0, ADS)
    taste = taste - taste.mean(axis=0)  # less what everyone likes
    prefers = np.sign(taste[:, kind == 1].mean(axis=1) - taste[:, kind == 0].mean(axis=1)) > 0
    assert (prefers == (likes[:30] == 1)).mean() > 0.9


def test_a_block_of_ads_and_the_pairs_have_the_same_taste(ads, log):
    tastes = ads.read(with_tastes(ads, requests(log, range(5))))
    whole, second = ads.block(tastes, 0, ADS), ads.block(tastes, 1, 15)
    np.testing.assert_allclose(whole[:, 15:30], second, atol=1e-5)
    for user in range(5):
        np.testing.assert_allclose(ads.pairs(tastes, user, ads.catalogue.live), whole[user], atol=1e-5)


def test_the_parts_of_a_taste_add_up(ads, log):
    tastes = ads.read(with_tastes(ads, requests(log, [3])))
    terms = terms_of(ads, tastes, 0, ads.catalogue.live)
    np.testing.assert_allclose(terms.taste, ads.block(tastes, 0, ADS)[0], atol=1e-5)
    parts = terms.behaviours.sum(axis=(0, 1)) + sum(terms.features.values())
    np.testing.assert_allclose(parts, log_odds(ads, tastes)[0], atol=1e-5)


def test_whoever_stands_beside_a_user_changes_nothing_of_the_taste(ads, log):
    together, short = ads.tastes(requests(log, range(40))), requests(log, [3])
    alone = ads.tastes(short)
    np.testing.assert_allclose(alone["weights"][0], together["weights"][3], rtol=0, atol=1e-12)
    assert alone["level"][0] == pytest.approx(together["level"][3], abs=1e-12)


def test_a_user_without_a_history_has_the_effects_of_the_ads(ads):
    expected = ads.ranker.level.mean + ads.first_position + ads.effects[0]
    np.testing.assert_allclose(log_odds(ads, ads.read(NOBODY))[0], expected)


def test_an_ad_that_is_not_known_any_more_changes_nothing(ads, log):
    batch = requests(log, [1])
    gone = batch.copy()
    gone["shown_ads"] = [["gone", *batch["shown_ads"][0]]]
    gone["clicked"], gone["positions"] = [[True, *batch["clicked"][0]]], [[1, *batch["positions"][0]]]
    gone["age_days"] = [[1.0, *batch["age_days"][0]]]
    with_it, without = (log_odds(ads, ads.read(with_tastes(ads, one))) for one in (gone, batch))
    np.testing.assert_allclose(with_it, without, atol=1e-5)


def test_a_saved_ranker_is_the_same(ads, trained, tmp_path):
    trained[0].ranker.save(tmp_path / "ranker")
    opened, ranker = open_taste_ranker(str(tmp_path / "ranker")), trained[0].ranker
    assert opened.theta == ranker.theta
    assert (opened.p_click, opened.p_conversion, opened.level) == (ranker.p_click, ranker.p_conversion, ranker.level)
    np.testing.assert_array_equal(opened.reader.centres, ranker.reader.centres)
    np.testing.assert_array_equal(opened.click.prior.weights, ranker.click.prior.weights)


def test_a_ranker_saved_before_there_were_rerankers_gives_the_same_probabilities(trained, tmp_path):
    trained[0].ranker.save(tmp_path / "ranker")
    file = tmp_path / "ranker" / "ranker.json"
    numbers = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps(numbers | {"p_click": numbers["p_click"][:3]}), encoding="utf-8")
    log_odds = trained[0].scored.log_odds
    np.testing.assert_array_equal(
        open_taste_ranker(str(tmp_path / "ranker")).clicks(log_odds), trained[0].ranker.clicks(log_odds)
    )


def test_the_first_position_is_looked_at_most(trained):
    positions = trained[0].ranker.positions
    assert len(positions) == SHOWN
    assert np.corrcoef(positions, -0.3 * np.arange(SHOWN))[0, 1] > 0.9


def test_predicted_clicks_are_as_many_as_observed_and_follow_the_truth(ads, trained, log):
    _, kind, likes, pull = log
    judged = trained[1].calibrates
    predicted = ads.ranker.clicks(trained[0].scored.log_odds[judged], trained[1].position[judged])
    assert predicted.mean() == pytest.approx(trained[1].clicked[judged].mean(), abs=0.01)
    for place in (1, SHOWN):  # at the first position and at the last
        there = judged & (trained[1].position == place)
        at_place = ads.ranker.clicks(trained[0].scored.log_odds[there], np.full(there.sum(), float(place)))
        assert at_place.mean() == pytest.approx(trained[1].clicked[there].mean(), abs=0.08)
    tastes = ads.read(with_tastes(ads, requests(log, range(40))))
    taste = ads.block(tastes, 0, ADS)
    found = ads.probabilities(log_odds(ads, tastes), ads.catalogue.live, taste, level=tastes.level[:, None])
    liking = np.where(kind == likes[:40, None], 1.2, -1.2)
    assert np.corrcoef(found.click.ravel(), sigmoid(-1 + pull + liking).ravel())[0, 1] > 0.8
    assert np.corrcoef(found.conversion.ravel(), sigmoid(-1 + liking).ravel())[0, 1] > 0.8
    np.testing.assert_allclose(found.value("per_click", 2.0), 2.0 * found.click)
    np.testing.assert_allclose(found.value("per_conversion", 2.0), 2.0 * found.click * found.conversion)


@pytest.mark.parametrize("trains", [True, False])
def test_without_examples_of_one_side_training_still_ends(trained, world, trains):
    every = np.ones(len(trained[1].trains), dtype=bool)
    examples = trained[1]._replace(trains=every & trains, calibrates=every & (not trains), clicked=every & False)
    none = np.zeros(0)
    nothing = ShownBefore(none.astype(int), none.astype(bool), none, np.zeros(examples.list.max() + 2, int), none)
    found = train_taste_ranker(
        world.catalogue(), world.fields, np.empty((ADS, 0)), Names(), examples, nothing, totals_of(examples), SETTINGS
    )
    assert np.isfinite(found.scored.log_odds).all()
    assert np.isfinite(found.ranker.p_click).all()


def test_kernels_of_many_ads_are_worked_out_as_they_are_looked_up(ads, monkeypatch):
    rows, columns = torch.tensor([[3, 0, -1], [5, 6, 7]]), torch.tensor([[1, -1], [2, 3]])
    looked_up = pair_lookup(ads.features)(rows, columns)
    monkeypatch.setattr("llmrec_spark.model.example_scores.LARGEST_STACK", 0)
    torch.testing.assert_close(pair_lookup(ads.features)(rows, columns), looked_up)


def test_counts_pull_an_effect_away_from_its_prior():
    found = count_effects(
        np.array([0.0, 10.0, 10_000.0]), np.array([0.0, 5.0, 5_000.0]), np.full(3, -1.0), base=0.0, spread=0.6
    )
    assert found[0] == -1.0
    assert -1.0 < found[1] < found[2] == pytest.approx(0.0, abs=0.02)


def test_a_new_item_gets_what_its_features_say():
    rng = np.random.default_rng(3)
    features = rng.normal(size=(200, 1))
    shown = np.full(200, 400.0)
    model, prior = learn_effect_model(shown, rng.binomial(400, sigmoid(-2 + features[:, 0])), features, spread=0.6)
    nobody = np.zeros(1)
    [high] = model.effects(np.array([[1.0]]), nobody, nobody)
    [low] = model.effects(np.array([[-1.0]]), nobody, nobody)
    assert high - low == pytest.approx(2.0, abs=0.2)
    assert np.corrcoef(prior, features[:, 0])[0, 1] > 0.95


def test_positions_beyond_those_learned_count_as_the_last_and_unknown_ones_as_none():
    found = by_position(np.array([0.5, -0.5]), np.array([1.0, 2.0, 9.0, np.nan]))
    np.testing.assert_allclose(found, [0.5, -0.5, -0.5, 0.0])


def test_ads_of_one_group_are_alike_and_those_of_none_are_like_nothing(trained, world):
    codes = np.where(np.arange(ADS) == 7, np.nan, np.arange(ADS) // 2 % 5)
    features = trained[0].ranker.reader.features(world.catalogue(), np.stack([np.zeros(ADS), codes], axis=1))
    same = pair_kernels(features, np.arange(ADS), np.arange(ADS))[features.names.index("same maker")]
    np.testing.assert_array_equal(same, codes[:, None] == codes)
