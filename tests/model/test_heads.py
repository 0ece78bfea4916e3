from dataclasses import replace

import pytest
import torch

from llmrec_spark.model.heads import HeadLogits, Heads, log_ctcvr, probabilities
from llmrec_spark.model.network_losses import click_term, ctcvr_term, list_term, network_terms
from tests.model.network_data import lists


def logits_of(click, conversion):
    return HeadLogits(torch.tensor([click]), torch.tensor([conversion]))


def batch_of(clicked, converted=None, known=None, present=None):
    """One list, with that much of what matters to a loss."""
    yes = [True] * len(clicked)
    batch = lists(1, ads=len(clicked))
    return replace(
        batch,
        clicked=torch.tensor([clicked]),
        converted=torch.tensor([converted or [False] * len(clicked)]),
        conversion_known=torch.tensor([known or yes]),
        present=torch.tensor([present or yes]),
    )


def test_the_probability_of_both_is_the_product():
    found = probabilities(logits_of([0.0, 100.0], [0.0, -100.0]))
    assert found.ctcvr.tolist() == [[0.25, 0.0]]
    assert found.click.tolist() == [[0.5, 1.0]]


@pytest.mark.parametrize("click, conversion", [(0.3, -1.2), (100.0, 100.0), (-100.0, 80.0), (100.0, -100.0)])
def test_the_logarithms_of_a_product_stay_finite(click, conversion):
    happened, not_happened = log_ctcvr(HeadLogits(torch.tensor(click), torch.tensor(conversion)))
    exact = torch.sigmoid(torch.tensor(click).double()) * torch.sigmoid(torch.tensor(conversion).double())
    assert happened.item() == pytest.approx(exact.log().item(), rel=1e-4, abs=1e-6)
    if abs(click) < 50:
        assert not_happened.item() == pytest.approx((1 - exact).log().item(), rel=1e-4)
    assert torch.isfinite(happened)
    assert torch.isfinite(not_happened)


def test_the_first_position_has_no_term_and_never_gets_one():
    heads = Heads(4, max_position=3)
    x, none, positions = torch.randn(1, 5, 4), torch.zeros(1, 5), torch.tensor([[1, 2, 3, 9, 0]])
    heads.position.weight.data[[0, 2, 3]] = torch.tensor([[5.0], [-1.0], [-2.0]])
    shown, scored = heads(x, none, none, positions), heads(x, none, none, None)
    assert (shown.click - scored.click).tolist() == [[0.0, -1.0, -2.0, -2.0, 5.0]]  # beyond the last: as the last
    assert torch.equal(shown.conversion, scored.conversion)
    shown.click.sum().backward()
    assert heads.position.weight.grad.flatten().tolist() == [1.0, 0.0, 1.0, 2.0]


def test_offsets_are_added():
    heads = Heads(4, max_position=3)
    found = heads(torch.randn(1, 2, 4), torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), None)
    assert found.click.tolist() == [[1.0, 2.0]]
    assert found.conversion.tolist() == [[3.0, 4.0]]


def test_the_loss_of_a_click_is_taken_over_what_was_shown():
    term = click_term(
        logits_of([0.0, 0.0, 50.0], [0.0] * 3), batch_of([True, False, False], present=[True, True, False])
    )
    assert term.total.item() == pytest.approx(2 * 0.6931, abs=1e-3)
    assert term.examples == 2


def test_a_conversion_is_learned_from_every_impression_whose_window_is_over():
    batch = batch_of([True, True, False, True], converted=[True, False, False, True], known=[True, True, True, False])
    term = ctcvr_term(logits_of([0.0] * 4, [0.0] * 4), batch)
    assert term.examples == 3
    assert term.total.item() == pytest.approx(-(torch.tensor([0.25, 0.75, 0.75]).log().sum().item()), abs=1e-5)


def test_lists_without_both_a_click_and_none_are_left_out_of_the_list_loss():
    batch = lists(3, ads=2)
    yes = torch.ones(3, 2, dtype=torch.bool)
    batch = replace(batch, present=yes, clicked=torch.tensor([[True, True], [False, False], [True, False]]))
    seen = []

    def loss(scores, clicked, present):
        seen.append((scores, clicked))
        return scores.sum(dim=1).mean()

    logits = HeadLogits(torch.tensor([[1.0, 2], [3, 4], [5, 6]]), torch.zeros(3, 2))
    term = list_term(logits, batch, loss)
    assert seen[0][0].tolist() == [[5.0, 6.0]]
    assert (term.total.item(), term.examples.item()) == (11.0, 1.0)
    empty = list_term(logits, replace(batch, clicked=~yes), loss)
    assert (empty.total.item(), empty.examples.item(), len(seen)) == (0.0, 0.0, 1)


def test_the_list_loss_is_a_switch():
    batch, logits = lists(3), HeadLogits(torch.zeros(3, 6), torch.zeros(3, 6))
    by_list = lambda scores, clicked, present: scores.sum(dim=1).mean()  # noqa: E731
    assert len(network_terms(logits, batch, list_loss=None, list_share=1.0)) == 2
    assert len(network_terms(logits, batch, list_loss=by_list, list_share=0.0)) == 2
    assert [weight for weight, _ in network_terms(logits, batch, list_loss=by_list, list_share=0.5)] == [1.0, 1.0, 0.5]
