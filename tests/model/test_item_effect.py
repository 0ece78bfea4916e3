from math import exp

import numpy as np
import pytest
from scipy.optimize import minimize

from llmrec_spark.model.item_effect import LEVEL_SPREAD, POSITION_SPREAD, Impressions, fit_item_effects

SPREAD = np.array([0.6, 0.3, 0.6, 1.0, 0.2])


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
        total += ((a - mean_level) ** 2).sum() / (2 * LEVEL_SPREAD**2)
        total += ((b - prior) ** 2 / (2 * SPREAD**2)).sum()
        return total + (c**2).sum() / (2 * POSITION_SPREAD**2)

    found = minimize(negative_log_posterior, np.zeros(users + len(prior) + positions), tol=1e-10).x
    return found[:users], found[users : users + len(prior)], found[users + len(prior) :]


@pytest.mark.parametrize("seed", [0, 1])
def test_effects_are_the_posterior_mode(seed):
    shown, prior = random_impressions(seed), np.array([0.5, -0.5, 0.0, 1.0, 0.2])
    found = fit_item_effects(shown, prior, SPREAD, users=6, positions=3)
    level, effect, position = slow_mode(shown, prior, 6, 3, found.mean_level)
    np.testing.assert_allclose(found.level, level, atol=2e-4)
    np.testing.assert_allclose(found.effect, effect, atol=2e-4)
    np.testing.assert_allclose(found.position, position, atol=2e-4)
    assert found.mean_level == pytest.approx(found.level.mean(), abs=2e-4)


def test_an_item_never_shown_has_its_prior_and_no_information():
    shown = Impressions(np.array([0, 0]), np.array([0, 0]), np.array([0, 1]), np.array([True, False]))
    found = fit_item_effects(shown, np.array([0.0, 0.7]), np.ones(2), users=1, positions=2)
    assert found.effect[1] == 0.7
    assert found.information[1] == 0


def test_an_item_shown_to_people_who_click_little_is_not_the_worse_for_it():
    # item 0: half the clicks of the keen user, item 1: half those of the reluctant one, who clicks nothing else
    keen, reluctant = [(0, 2, True)] * 8 + [(0, 0, True), (0, 0, False)], [(1, 2, False)] * 8
    rows = [*keen, *reluctant, (1, 1, True), (1, 1, False)]
    user, item, clicked = (np.array(one) for one in zip(*rows, strict=True))
    found = fit_item_effects(Impressions(user, item, user * 0, clicked), np.zeros(3), np.ones(3), users=2, positions=1)
    assert found.effect[1] > found.effect[0]


@pytest.mark.parametrize("clicked", [True, False])
def test_people_who_click_all_or_nothing_leave_finite_numbers(clicked):
    shown = Impressions(np.zeros(5, int), np.arange(5), np.arange(5), np.full(5, clicked))
    found = fit_item_effects(shown, np.zeros(5), np.ones(5), users=1, positions=5)
    assert np.isfinite([*found.effect, *found.level, *found.position, found.mean_level]).all()
    assert (np.sign(found.effect) == (1 if clicked else -1)).all()


def test_without_an_impression_everything_is_the_prior():
    nothing = np.zeros(0, dtype=int)
    shown = Impressions(nothing, nothing, nothing, nothing.astype(bool))
    found = fit_item_effects(shown, np.array([0.5, 0.0]), np.ones(2), users=0, positions=0)
    assert found.effect.tolist() == [0.5, 0]


def test_unshrunk_effects_are_what_clicks_alone_say():
    rng = np.random.default_rng(0)
    item = rng.integers(0, 3, 9_000)
    truth = np.array([-0.5, 0.0, 0.5])
    shown = Impressions(np.arange(9_000) % 100, item, item * 0, rng.random(9_000) < 1 / (1 + np.exp(-truth[item])))
    prior, spread = np.array([-1.0, 0.0, 1.0]), np.full(3, 0.05)  # a strong and wrong prior
    found = fit_item_effects(shown, prior, spread, users=100, positions=1)
    plain = found.unshrunk(prior, spread)
    assert plain[2] - plain[0] == pytest.approx(1.0, abs=0.15)
    assert found.effect[2] - found.effect[0] > 1.2
