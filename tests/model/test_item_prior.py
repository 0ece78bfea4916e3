import numpy as np
import pytest
import torch

from llmrec_spark.model.item_effect import Impressions
from llmrec_spark.model.item_prior import NEVER_SHOWN, fit_item_prior, learn_item_effects, learn_variances


def random_table(seed, items=8):
    factors = np.random.default_rng(seed).normal(size=(items, 3))
    return factors @ factors.T / 3 + 0.2 * np.eye(items)


def slow_prediction(table, target, noise, mean, item, others):
    """Mean and variance of a Gaussian process at `item` from `others`."""
    inner = table[np.ix_(others, others)] + np.diag(noise[others] + 1e-4)
    pull = table[item, others] @ np.linalg.inv(inner)
    return mean + pull @ (target[others] - mean), table[item, item] - pull @ table[others, item]


def test_an_item_that_was_met_hears_all_others_and_a_new_one_all_that_were_met():
    rng = np.random.default_rng(0)
    table, target = random_table(1), rng.normal(size=8)
    noise = np.where(np.arange(8) < 6, rng.uniform(0.1, 1, 8), NEVER_SHOWN)
    model, prior, spread = fit_item_prior(torch.as_tensor(table), target, noise, 0.3)
    for item in range(8):
        others = np.setdiff1d(np.arange(6), [item])
        mean, variance = slow_prediction(table, target, noise, 0.3, item, others)
        assert prior[item] == pytest.approx(mean, abs=2e-4)
        if item < 6:
            assert spread[item] ** 2 == pytest.approx(variance, abs=2e-4)
    np.testing.assert_allclose(model.predict(torch.as_tensor(table[6:, :6])), prior[6:])


def test_nothing_met_leaves_the_mean():
    model, prior, _ = fit_item_prior(torch.as_tensor(random_table(0)), np.zeros(8), np.full(8, NEVER_SHOWN), -0.4)
    assert prior.tolist() == [-0.4] * 8
    assert model.predict(torch.zeros(2, 0)).tolist() == [-0.4] * 2


def test_the_kernel_that_effects_follow_gets_the_largest_variance():
    rng = np.random.default_rng(0)
    group, other = rng.integers(0, 6, 150), rng.integers(0, 6, 150)
    stack = np.stack([group[:, None] == group, other[:, None] == other, np.eye(150)], axis=2).astype(np.float32)
    target = rng.normal(size=6)[group] + 0.3 * rng.normal(size=150)
    learned = learn_variances(torch.as_tensor(stack), target, np.full(150, 0.01))
    assert learned.kernels.argmax() == 0
    assert learned.kernels[0] > 5 * learned.kernels[1]


def test_without_a_target_the_variances_stay_as_they_begin():
    learned = learn_variances(torch.zeros(0, 0, 2), np.zeros(0), np.zeros(0))
    assert learned.kernels.tolist() == [0.03, 0.03]


def test_a_new_item_is_predicted_from_items_like_it():
    rng = np.random.default_rng(0)
    group = np.arange(60) % 3
    truth = np.array([-1.0, 0.0, 1.0])[group]
    user, item = np.repeat(np.arange(60), 40), rng.integers(0, 54, 2_400)  # the last six are never shown
    shown = Impressions(user, item, user * 0, rng.random(2_400) < 1 / (1 + np.exp(1 - truth[item])))
    table = torch.as_tensor((group[:, None] == group) + 0.05 * np.eye(60))
    learned = learn_item_effects(shown, table, 0.0, users=60, positions=1)
    np.testing.assert_array_equal(learned.effects.information[54:], 0)
    np.testing.assert_allclose(learned.effects.effect[54:], learned.prior[54:])
    assert np.corrcoef(learned.prior[54:], truth[54:])[0, 1] > 0.98
    assert learned.prior[56] - learned.prior[54] == pytest.approx(2.0, abs=0.6)


def test_without_an_impression_effects_are_the_mean():
    nothing = np.zeros(0, dtype=int)
    shown = Impressions(nothing, nothing, nothing, nothing.astype(bool))
    learned = learn_item_effects(shown, torch.eye(3), 0.2, users=0, positions=0)
    assert learned.effects.effect.tolist() == [0.2] * 3
