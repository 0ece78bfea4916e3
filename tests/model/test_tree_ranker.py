import numpy as np
import pytest

from llmrec_spark.model.tree_ranker import TreeRanker, ensemble, fit_tree_ranker

SIZES = np.full(300, 6)


@pytest.fixture(scope="module")
def learned():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(1_800, 3))
    clicked = rng.random(1_800) < 1 / (1 + np.exp(-3 * features[:, 1]))
    names = ("first of all", "second, the good", "third")
    return features, clicked, fit_tree_ranker(features, clicked, SIZES, names=names, seed=0, trees=20)


def test_trees_follow_the_feature_that_clicks_follow(learned):
    features, _, ranker = learned
    terms = np.abs(ranker.terms(features)).mean(axis=0)
    assert terms[:3].argmax() == 1
    assert np.corrcoef(ranker.score(features), features[:, 1])[0, 1] > 0.7


def test_terms_add_up_to_the_score(learned):
    features, _, ranker = learned
    np.testing.assert_allclose(ranker.terms(features).sum(axis=1), ranker.score(features), atol=1e-8)


def test_what_the_offset_explains_is_not_learned_again():
    rng = np.random.default_rng(1)
    features = rng.normal(size=(1_800, 2))
    offset = 4.0 * features[:, 0]
    clicked = rng.random(1_800) < 1 / (1 + np.exp(-offset))
    given = {"names": ("a", "b"), "seed": 0, "trees": 20}
    with_it = fit_tree_ranker(features, clicked, SIZES, offset=offset, **given).score(features)
    without = fit_tree_ranker(features, clicked, SIZES, **given).score(features)
    assert with_it.std() < 0.5 * without.std()


def test_trees_read_again_from_their_text_score_the_same(learned):
    features, clicked, ranker = learned
    np.testing.assert_array_equal(TreeRanker(ranker.text).score(features), ranker.score(features))
    names = ("first of all", "second, the good", "third")
    again = fit_tree_ranker(features, clicked, SIZES, names=names, seed=0, trees=20)
    assert again.text == ranker.text


def test_nothing_to_learn_from_gives_zeros():
    ranker = fit_tree_ranker(np.zeros((0, 2)), np.zeros(0), np.zeros(0), names=("a", "b"), seed=0)
    assert ranker.score(np.ones((3, 2))).tolist() == [0, 0, 0]
    assert not ranker.terms(np.ones((3, 2))).any()


def test_an_ensemble_adds_scores_in_standard_deviations_of_their_list():
    scores = [np.array([1.0, 3.0, 5.0, 5.0]), np.array([0.0, 100.0, 2.0, 1.0])]
    assert ensemble(scores, np.array([2, 2])).tolist() == [-1.0, 1.0, 0.5, -0.5]
    assert ensemble(scores, np.array([2, 0, 2])).tolist() == [-1.0, 1.0, 0.5, -0.5]
