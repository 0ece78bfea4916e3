from dataclasses import replace

import pytest
import torch

from llmrec_spark.model.network_attribution import occluded_contributions
from llmrec_spark.model.ranking_network import score_lists
from tests.model.network_data import ad_table, lists, tiny_network, woken


@pytest.mark.parametrize("name", ["lstm", "transformer", "text"])
def test_contributions_and_rest_add_up_to_the_log_odds(name):
    batch, network = lists(6), woken(tiny_network(name))
    found = occluded_contributions(network, batch, ad_table())
    assert torch.equal(found.log_odds, score_lists(network, batch, ad_table()).click)
    total = found.ranker + found.behaviours.sum(dim=1) + found.rest
    assert torch.allclose(total, found.log_odds, atol=1e-5)
    assert found.behaviours.abs().max() > 1e-3


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_contribution_is_what_is_lost_when_the_behaviour_never_was(name):
    batch, network, table = lists(6), woken(tiny_network(name)), ad_table()
    found = occluded_contributions(network, batch, table)
    user = int(batch.behaviours.present.sum(dim=1).argmax())  # with the longest history
    others = torch.tensor([place for place in range(5) if place != 1])
    kept = {name: getattr(batch.behaviours, name)[:, others] for name in vars(batch.behaviours)}
    without = score_lists(network, replace(batch, behaviours=type(batch.behaviours)(**kept)), table).click
    assert torch.allclose(found.behaviours[user, 1], (found.log_odds - without)[user], atol=1e-5)


def test_a_behaviour_that_is_not_there_adds_nothing():
    batch = lists(6)
    found = occluded_contributions(woken(tiny_network()), batch, ad_table())
    assert (found.behaviours[~batch.behaviours.present] == 0).all()


def test_a_cold_user_has_the_rest_alone():
    batch = lists(1)  # user 0 is cold
    found = occluded_contributions(woken(tiny_network()), batch, ad_table())
    assert (found.behaviours == 0).all()
    assert torch.allclose(found.ranker + found.rest, found.log_odds)


def test_of_one_behaviour_nothing_is_left_but_the_cold_user():
    batch = lists(2, behaviours=1)
    network, table = woken(tiny_network()), ad_table()
    found = occluded_contributions(network, batch, table)
    cold = replace(batch, behaviours=batch.behaviours.kept(torch.zeros(2, 1, dtype=torch.bool)))
    assert torch.allclose((found.ranker + found.rest)[1], score_lists(network, cold, table).click[1], atol=1e-6)


def test_histories_without_room_have_no_contributions():
    batch = lists(2)
    kept = {name: getattr(batch.behaviours, name)[:, :0] for name in vars(batch.behaviours)}
    none = replace(batch, behaviours=type(batch.behaviours)(**kept))
    assert occluded_contributions(woken(tiny_network()), none, ad_table()).behaviours.shape == (2, 0, 6)
