from math import exp

import numpy as np
import pytest
from scipy.optimize import minimize

from llmrec_spark.model.item_effect import (
    FOLDS,
    Impressions,
    Spreads,
    fit_item_effects,
    fit_priors,
    learn_item_effects,
    out_of_fold,
)

SPREADS = Spreads(level=1.0, effect=0.6, position=0.1)


def random_impressions(seed, *, users=6, items=5, positions=3, count=60):
    rng = np.random.default_rng(seed)
    return Impressions(
        rng.integers(0, users, count),
        rng.integers(0, items, count),
        rng.integers(0, positions, count),
        rng.random(count) < 0.4,
    )


def slow_mode(shown, prior, users, positions, mean_level):
    """The posterior mode by a general optimiser, row by row, for a given mu."""

    def negative_log_posterior(x):
        a, b, c = x[:users], x[users : users + len(prior)], x[users + len(prior) :]
        total = 0.0
        for u, i, q, y in zip(*shown, strict=True):
            p = 1 / (1 + exp(-(a[u] + b[i] + c[q])))
            total -= np.log(p if y else 1 - p)
        total += ((a - mean_level) ** 2).sum() / (2 * SPREADS.level**2)
        total += ((b - prior) ** 2).sum() / (2 * SPREADS.effect**2)
        return total + (c**2).sum() / (2 * SPREADS.position**2)

    found = minimize(negative_log_posterior, np.zeros(users + len(prior) + positions), tol=1e-10).x
    return found[:users], found[users : users + len(prior)], found[users + len(prior) :]


@pytest.mark.parametrize("seed", [0, 1])
def test_effects_are_the_posterior_mode(seed):
    shown, prior = random_impressions(seed), np.array([0.5, -0.5, 0.0, 1.0, 0.2])
    found = fit_item_effects(shown, prior, users=6, positions=3, spreads=SPREADS)
    level, effect, position = slow_mode(shown, prior, 6, 3, found.mean_level)
    np.testing.assert_allclose(found.level, level, atol=2e-4)
    np.testing.assert_allclose(found.effect, effect, atol=2e-4)
    np.testing.assert_allclose(found.position, position, atol=2e-4)
    assert found.mean_level == pytest.approx(found.level.mean(), abs=2e-4)


def test_an_item_never_shown_has_its_prior_and_no_information():
    shown = Impressions(np.array([0, 0]), np.array([0, 0]), np.array([0, 1]), np.array([True, False]))
    found = fit_item_effects(shown, np.array([0.0, 0.7]), users=1, positions=2)
    assert found.effect[1] == 0.7
    assert found.information[1] == 0


def test_an_item_shown_to_people_who_click_little_is_not_the_worse_for_it():
    # item 0: half the clicks of the keen user, item 1: half those of the reluctant one, who clicks nothing else
    keen, reluctant = [(0, 2, True)] * 8 + [(0, 0, True), (0, 0, False)], [(1, 2, False)] * 8
    rows = [*keen, *reluctant, (1, 1, True), (1, 1, False)]
    user, item, clicked = (np.array(one) for one in zip(*rows, strict=True))
    found = fit_item_effects(Impressions(user, item, user * 0, clicked), np.zeros(3), users=2, positions=1)
    assert found.effect[1] > found.effect[0]


@pytest.mark.parametrize("clicked", [True, False])
def test_people_who_click_all_or_nothing_leave_finite_numbers(clicked):
    shown = Impressions(np.zeros(5, int), np.arange(5), np.arange(5), np.full(5, clicked))
    found = fit_item_effects(shown, np.zeros(5), users=1, positions=5)
    assert np.isfinite([*found.effect, *found.level, *found.position, found.mean_level]).all()
    assert (np.sign(found.effect) == (1 if clicked else -1)).all()


def test_without_an_impression_everything_is_the_prior():
    nothing = np.zeros(0, dtype=int)
    learned = learn_item_effects(
        Impressions(nothing, nothing, nothing, nothing.astype(bool)), np.ones((3, 2)), users=0, positions=0
    )
    assert learned.effects.effect.tolist() == [0, 0, 0]
    assert learned.model.predict(np.ones((1, 2))).tolist() == [0]


def test_the_prior_is_ridge_regression_with_weights():
    rng = np.random.default_rng(0)
    features, target, precision = rng.normal(size=(7, 2)), rng.normal(size=7), rng.uniform(0.5, 2, 7)
    share = precision / precision.mean()
    found = fit_priors(features, target, precision, [3.0])[0]

    def loss(x):
        residual = target - (features - share @ features / 7) @ x[:2] - x[2]
        return share @ residual**2 + 3.0 * (x[:2] ** 2).sum()

    expected = minimize(loss, np.zeros(3), tol=1e-12).x
    np.testing.assert_allclose([*found.weights, found.intercept], expected, atol=1e-5)


def test_no_item_is_told_its_own_effect():
    rng = np.random.default_rng(0)
    features, target, folds = rng.normal(size=(30, 3)), rng.normal(size=30), np.arange(30) % FOLDS
    before = out_of_fold(features, target, np.ones(30), [1.0], folds)[0]
    target[4] += 100.0
    after = out_of_fold(features, target, np.ones(30), [1.0], folds)[0]
    assert set(np.flatnonzero(before == after)) == set(np.flatnonzero(folds == 4))


def test_a_new_item_is_predicted_from_its_features():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(200, 2))
    truth = features @ [1.0, -0.5]
    user, item = np.repeat(np.arange(60), 40), rng.integers(0, 190, 2_400)  # the last ten are never shown
    shown = Impressions(user, item, user * 0, rng.random(2_400) < 1 / (1 + np.exp(1 - truth[item])))
    learned = learn_item_effects(shown, features, users=60, positions=1)
    predicted = learned.model.predict(features[190:])
    assert np.corrcoef(predicted, truth[190:])[0, 1] > 0.95
    np.testing.assert_array_equal(learned.effects.information[190:], 0)
