import numpy as np
import pytest
import torch

from llmrec_spark.model.losses import list_loss
from llmrec_spark.model.taste_gp import (
    Level,
    PaddedHistories,
    PaddedLists,
    alphas,
    behaviour_weights,
    fitted_levels,
    learn_theta,
    taste_block,
    taste_of_lists,
    taste_terms,
)

LEVEL = Level(-1.0, 1.0)
ITEMS, KERNELS = 9, 3


def random_stack(seed):
    """(F, I, I) positive semi-definite kernels."""
    factors = np.random.default_rng(seed).normal(size=(KERNELS, ITEMS, 4)) / 2
    return (factors @ factors.transpose(0, 2, 1)).astype(np.float32)


def looked_up(stack):
    """The stack as lists of items read it."""
    pairs = torch.as_tensor(stack).permute(1, 2, 0)
    return lambda rows, columns: pairs[rows.clamp(min=0)[:, :, None], columns.clamp(min=0)[:, None, :]]


def random_histories(seed, lengths=(0, 1, 4, 6)):
    rng = np.random.default_rng(seed)
    item = np.full((len(lengths), max(lengths)), -1)
    for user, length in enumerate(lengths):
        item[user, :length] = rng.integers(0, ITEMS, length)
    clicked = (rng.random(item.shape) < 0.4) & (item >= 0)
    offset = rng.normal(size=item.shape)
    return PaddedHistories(
        torch.as_tensor(item), torch.as_tensor(clicked).float(), torch.as_tensor(offset, dtype=torch.float32)
    )


def slow_alpha(item, clicked, offset, table, level):
    """alpha of one user as the formula has it, in float64."""
    grid = np.linspace(-8, 8, 32_001)
    logits = grid[:, None] + offset
    posterior = (clicked * logits - np.logaddexp(0, logits)).sum(axis=1) - (
        grid - level.mean
    ) ** 2 / 2 / level.spread**2
    p = 1 / (1 + np.exp(-grid[posterior.argmax()] - offset))
    root = np.diag(np.sqrt(p * (1 - p)))
    inner = np.eye(len(item)) + root @ table[np.ix_(item, item)] @ root
    return root @ np.linalg.inv(inner) @ np.linalg.inv(root) @ (clicked - p)


@pytest.mark.parametrize("seed", [0, 1])
def test_weights_and_taste_are_those_of_the_formula(seed):
    stack, histories, theta = random_stack(seed), random_histories(seed), np.array([0.3, -1.0, -0.2])
    kernels, table = looked_up(stack), np.einsum("f,fij->ij", np.exp(theta), random_stack(seed).astype(float))
    alpha = alphas(histories, kernels, theta, LEVEL)
    asked = torch.arange(ITEMS).expand(len(alpha), ITEMS)
    taste = taste_of_lists(alpha, histories.item, asked, kernels, theta)
    for user, items in enumerate(histories.item.numpy()):
        item = items[items >= 0]
        given = (part[user, : len(item)].numpy().astype(float) for part in histories[1:])
        expected = slow_alpha(item, *given, table, LEVEL)
        np.testing.assert_allclose(alpha[user, : len(item)], expected, atol=1e-3)
        np.testing.assert_allclose(taste[user], expected @ table[item], atol=2e-3)
    assert not alpha[histories.item < 0].any()
    assert not taste[0].any()  # nothing known of this user


def test_many_steps_reach_the_posterior_mode():
    stack, histories = random_stack(0), random_histories(0)
    table = looked_up(stack)(histories.item, histories.item).sum(dim=3)
    alpha = behaviour_weights(histories, table, LEVEL, steps=30)
    logit = fitted_levels(histories, LEVEL)[:, None] + histories.offset + torch.einsum("bts,bs->bt", table, alpha)
    gradient = (histories.clicked - torch.sigmoid(logit)) * (histories.item >= 0)
    torch.testing.assert_close(alpha, gradient, atol=1e-3, rtol=0)


def test_the_level_of_a_user_without_history_is_the_mean_and_of_one_who_clicks_all_is_finite():
    item = torch.tensor([[-1, -1], [0, 1]])
    histories = PaddedHistories(item, torch.tensor([[0.0, 0.0], [1.0, 1.0]]), torch.zeros(2, 2))
    levels = fitted_levels(histories, LEVEL)
    assert levels[0] == LEVEL.mean
    assert LEVEL.mean < levels[1] < 2.0
    assert torch.isfinite(behaviour_weights(histories, torch.ones(2, 2, 2), LEVEL)).all()


def test_what_was_clicked_pulls_its_like_up_and_what_was_skipped_pulls_it_down():
    item = torch.tensor([[0, 1]])
    histories = PaddedHistories(item, torch.tensor([[1.0, 0.0]]), torch.zeros(1, 2))
    alpha = behaviour_weights(histories, torch.eye(2)[None], LEVEL)
    assert alpha[0, 0] > 0 > alpha[0, 1]


def test_a_block_of_the_table_gives_the_taste_of_lists():
    stack, histories, theta = random_stack(2), random_histories(2), np.array([0.1, -0.5, -2.0])
    alpha = alphas(histories, looked_up(stack), theta, LEVEL)
    asked = torch.arange(ITEMS).expand(len(alpha), ITEMS)
    expected = taste_of_lists(alpha, histories.item, asked, looked_up(stack), theta)
    table = torch.as_tensor(np.einsum("f,fij->ij", np.exp(theta), stack), dtype=torch.float32)
    present = histories.item >= 0
    offsets = np.append(0, present.sum(dim=1).numpy().cumsum())
    found = taste_block(table, histories.item[present].numpy(), alpha[present].numpy(), offsets)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert taste_block(table, np.zeros(0, int), np.zeros(0), np.zeros(3, int)).tolist() == [[0] * ITEMS] * 2


def test_the_terms_add_up_to_the_taste():
    rng = np.random.default_rng(0)
    stack, theta, alpha, item = random_stack(0), np.array([0.1, -0.5, 1.0]), rng.normal(size=4), np.array([2, 0, 2, 5])
    terms = taste_terms(alpha, stack[:, item], theta)
    assert terms.shape == (4, KERNELS, ITEMS)
    table = np.einsum("f,fij->ij", np.exp(theta), stack.astype(float))
    np.testing.assert_allclose(terms.sum(axis=(0, 1)), alpha @ table[item], rtol=1e-5)


def lists_by_one_kernel(seed, users=200):
    """Histories and lists of people whose clicks follow kernel 0 of three."""
    rng = np.random.default_rng(seed)
    group = np.arange(ITEMS) % 3
    stack = np.stack(
        [group[:, None] == group, rng.permutation(np.eye(ITEMS)) @ np.ones((ITEMS, ITEMS)) / 4, np.eye(ITEMS)]
    )
    likes = rng.normal(size=(users, 3)) * 2
    item = rng.integers(0, ITEMS, (users, 16))
    clicked = rng.random(item.shape) < 1 / (1 + np.exp(1 - likes[np.arange(users)[:, None], group[item]]))
    known, asked = torch.as_tensor(item[:, :8]), torch.as_tensor(item[:, 8:])
    clicks = torch.as_tensor(clicked)
    zeros = torch.zeros(users, 8)
    return (
        PaddedHistories(known, clicks[:, :8].float(), zeros),
        PaddedLists(asked, clicks[:, 8:], zeros),
        looked_up(stack.astype(np.float32)),
    )


def test_the_kernel_that_clicks_follow_gains_weight():
    histories, lists, kernels = lists_by_one_kernel(0)
    theta = learn_theta(histories, lists, kernels, LEVEL, count=3, seed=0, batch=4)
    assert theta[0] > theta[2] + 0.1
    assert theta[0] > np.log(0.1)


def test_the_same_seed_gives_the_same_weights():
    histories, lists, kernels = lists_by_one_kernel(1, users=40)
    once, again = (learn_theta(histories, lists, kernels, LEVEL, count=3, seed=0) for _ in range(2))
    np.testing.assert_array_equal(once, again)


def test_without_a_list_the_weights_stay_as_they_begin():
    empty = torch.zeros(0, 0)
    histories, lists = PaddedHistories(empty.long(), empty, empty), PaddedLists(empty.long(), empty.bool(), empty)
    theta = learn_theta(histories, lists, looked_up(random_stack(0)), LEVEL, count=3, seed=0)
    np.testing.assert_allclose(theta, np.log(0.1), rtol=1e-6)


def test_the_list_loss_holds_each_click_against_all_that_was_not_clicked():
    scores = torch.tensor([[2.0, 1.0, 0.0, 5.0], [1.0, 1.0, 9.0, 9.0]])
    clicked = torch.tensor([[True, False, False, True], [True, True, False, False]])
    present = torch.tensor([[True, True, True, False], [True, True, False, False]])
    against = np.logaddexp(1.0, 0.0)
    assert list_loss(scores, clicked, present).item() == pytest.approx(np.logaddexp(0.0, against - 2.0))


@pytest.mark.parametrize("clicked", [True, False])
def test_a_list_all_clicked_or_all_skipped_says_nothing(clicked):
    scores = torch.ones(1, 3, requires_grad=True)
    loss = list_loss(scores, torch.full((1, 3), clicked), torch.ones(1, 3, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()
