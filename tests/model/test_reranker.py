"""A reranker beside the taste: trained on a small world, saved, and taken apart."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from llmrec_spark.errors import ModelError
from llmrec_spark.model.linear_ranker import fit_linear_ranker
from llmrec_spark.model.pair_features import behaviour_parts, feature_names
from llmrec_spark.model.reranker import FILE, Reranker, open_reranker
from llmrec_spark.model.taste_ranker import open_taste_ranker
from llmrec_spark.model.taste_reranking import reranked, terms_of
from llmrec_spark.model.tree_ranker import fit_tree_ranker
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from tests.model.small_world import ADS, NOBODY, SETTINGS, ads_of, requests, with_tastes

KERNELS, COLUMNS = ("title text", "same"), ("year",)
NAMES = feature_names(KERNELS, COLUMNS)


def some_reranker(seed, parts=("linear", "trees"), columns=COLUMNS):
    """Fitted to noise, so that every feature has a weight."""
    rng = np.random.default_rng(seed)
    names = feature_names(KERNELS, columns)
    features = rng.normal(size=(300, 6, len(names)))
    clicked = rng.random((300, 6)) < 1 / (1 + np.exp(-features.sum(axis=2)))
    linear = fit_linear_ranker(torch.as_tensor(features).float(), torch.as_tensor(clicked), torch.ones(300, 6).bool())
    trees = fit_tree_ranker(features.reshape(1_800, -1), clicked.ravel(), np.full(300, 6), names=names, seed=0, trees=9)
    weights = {"taste": 0.7, "linear": 1.2, "trees": 0.4}
    kept = {"taste": 0.7} | {name: weights[name] for name in parts}
    return Reranker(KERNELS, columns, kept, linear if "linear" in parts else None, trees if "trees" in parts else None)


@pytest.mark.parametrize("parts", [("linear",), ("trees",), ("linear", "trees")])
def test_a_saved_reranker_scores_the_same(tmp_path, parts):
    ranker, rng = some_reranker(0, parts), np.random.default_rng(1)
    ranker.save(tmp_path)
    opened = open_reranker(tmp_path)
    first, features = rng.normal(size=9), rng.normal(size=(9, len(NAMES)))
    assert set(opened.scores(first, features, None)) == {"taste", *parts}
    for name, one in ranker.scores(first, features, None).items():
        np.testing.assert_array_equal(opened.scores(first, features, None)[name], one)
    assert (opened.kernels, opened.columns, opened.weights) == (ranker.kernels, ranker.columns, ranker.weights)
    assert open_reranker(tmp_path / "other") is None


def test_one_trained_on_other_features_is_refused(tmp_path):
    some_reranker(0).save(tmp_path)
    numbers = json.loads((tmp_path / FILE).read_bytes())
    (tmp_path / FILE).write_text(json.dumps(numbers | {"features": numbers["features"][:-1]}))
    with pytest.raises(ModelError, match=r"trained on other features .*\. Train again"):
        open_reranker(tmp_path)


def test_its_score_is_the_weighted_sum():
    ranker, rng = some_reranker(0), np.random.default_rng(2)
    found = ranker.scores(rng.normal(size=5), rng.normal(size=(5, len(NAMES))), None)
    expected = 0.7 * found["taste"] + 1.2 * found["linear"] + 0.4 * found["trees"]
    np.testing.assert_allclose(ranker.together(found), expected)


@pytest.fixture(scope="module")
def learned(trained):
    network = NetworkConfig(width=8, heads=2, max_behaviours=20)
    learning = TrainingSettings(epochs=2)
    changes = {"rerank": ("linear", "trees", "network"), "network": network, "learning": learning}
    return trained[2](SETTINGS.model_copy(update=changes))


@pytest.fixture(scope="module")
def ads(learned, world, log, tmp_path_factory):
    return ads_of(learned.ranker, world, log, tmp_path_factory.mktemp("reranked"))


def test_training_weighs_what_it_adds_and_tells_each(learned, trained):
    scored, examples = learned.scored, trained[1]
    assert set(scored.steps) == {"taste", "linear", "trees", "network"} == set(learned.ranker.rerank.weights)
    np.testing.assert_allclose(scored.steps["taste"], scored.effect + scored.taste, atol=1e-5)
    np.testing.assert_allclose(learned.ranker.rerank.together(scored.steps), scored.score)
    judged = examples.calibrates
    predicted = learned.ranker.clicks(scored.log_odds[judged], examples.position[judged], moved=scored.moved[judged])
    assert predicted.mean() == pytest.approx(examples.clicked[judged].mean(), abs=0.01)


def reasons_of(ads, tastes, user=0):
    """Terms of every live ad, and the log-odds that `matches` has of them."""
    return terms_of(ads, tastes, user, ads.catalogue.live), reranked(ads, tastes, user, ads.catalogue.live)[0]


def test_terms_add_up_but_for_what_all_ads_share(ads, log):
    terms, log_odds = reasons_of(ads, ads.read(with_tastes(ads, requests(log, [3]))))
    rest = log_odds - terms.behaviours.sum(axis=(0, 1)) - sum(terms.features.values())
    np.testing.assert_allclose(rest, rest[0], atol=1e-4)
    assert np.ptp(log_odds) > 0.5


def test_terms_of_features_beyond_their_bounds_add_up_too():
    ranker, rng = some_reranker(3, ("linear",)), np.random.default_rng(4)
    ads, known = 5, 4
    stack, residual = rng.normal(size=(2, known, ads)) * 9.0, rng.normal(size=known)
    clicked = np.array([True, False, True, False])
    parts = behaviour_parts(
        *(torch.as_tensor(one) for one in (np.ascontiguousarray(stack.transpose(1, 2, 0)), residual, clicked))
    ).numpy()
    effect, taste = rng.normal(size=ads) * 9.0, rng.normal(size=ads)
    features = np.column_stack(
        [effect, taste, np.full(ads, 3.0), parts.sum(axis=0).reshape(ads, -1), np.zeros((ads, 3))]
    )
    found = ranker.terms(effect, features, stack, residual, clicked)
    score = ranker.together(ranker.scores(effect + taste, features, None))
    rest = score - found.behaviours.sum(axis=(0, 1)) - found.taste * taste - sum(found.features.values())
    np.testing.assert_allclose(rest, rest[0], atol=1e-6)


def test_a_user_of_whom_nothing_is_known_is_not_reranked(ads):
    tastes = ads.read(NOBODY)
    terms, log_odds = reasons_of(ads, tastes)
    live = ads.catalogue.live
    np.testing.assert_allclose(log_odds, ads.log_odds(tastes.level, live, np.zeros((1, ADS)))[0])
    np.testing.assert_allclose(sum(terms.features.values()), log_odds)


def test_a_saved_ranker_keeps_its_reranker(ads, learned, tmp_path):
    learned.ranker.save(tmp_path / "ranker")
    opened = open_taste_ranker(str(tmp_path / "ranker"))
    assert opened.rerank.trees.text == learned.ranker.rerank.trees.text
    np.testing.assert_array_equal(opened.rerank.linear.weights, learned.ranker.rerank.linear.weights)
    weights = learned.ranker.rerank.network.state_dict()
    assert all(torch.equal(one, weights[name]) for name, one in opened.rerank.network.state_dict().items())


def test_a_day_scores_a_list_as_its_example_was_scored(ads, learned, trained):
    _, examples, _, seen, totals = trained
    number = examples.list[examples.calibrates][0]
    of_list, own = np.flatnonzero(examples.list == number), slice(*seen.offsets[number : number + 2])
    histories = {
        "shown_ads": ["gone", *(f"ad{item:02d}" for item in seen.item[own])],
        "clicked": [True, *seen.clicked[own]],
        "positions": [1.0, *seen.position[own]],
        "age_days": [0.5, *seen.age_days[own]],
    }
    batch = pd.DataFrame({"user_id": ["u"], **{name: [one] for name, one in histories.items()}})
    item = examples.item[of_list]
    ads.shown, ads.clicks = totals.shown, totals.clicks  # of the ads of histories: what training counted
    ads.__dict__.pop("effects", None)
    tastes = ads.read(with_tastes(ads, batch))
    ads.effects[0][item] = learned.scored.effect[of_list]  # of the list: what was known that day
    found, taste = reranked(ads, tastes, 0, item)
    ads.__dict__.pop("effects", None)
    np.testing.assert_allclose(taste, learned.scored.taste[of_list], atol=1e-4)
    np.testing.assert_allclose(found, learned.scored.log_odds[of_list], atol=1e-3)
