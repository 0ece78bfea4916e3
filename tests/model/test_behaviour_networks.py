from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from llmrec_spark.errors import ModelError
from llmrec_spark.model.behaviour_networks import (
    START_BUCKET,
    AdNetwork,
    TargetAttention,
    behaviour_encoder,
    gap_buckets,
    masked_softmax,
)
from llmrec_spark.model.network_batches import ads_of
from llmrec_spark.model.ranking_network import NetworkShape, load_network, new_network, save_network, score_lists
from llmrec_spark.network_config import NetworkConfig
from tests.model.network_data import ad_table, lists, padded, tiny_network, woken

NAMES = ["lstm", "transformer", "text"]
every_encoder = pytest.mark.parametrize("name", NAMES)


def clicks(network, batch, table=None):
    return score_lists(network, batch, table or ad_table()).click


def changed(behaviours, **changes):
    """One behaviour, the newest of user 1's, otherwise."""
    values = {}
    for name, value in changes.items():
        values[name] = getattr(behaviours, name).clone()
        values[name][1, 0] = value
    return replace(behaviours, **values)


def test_masked_softmax_of_nothing_is_zero_and_has_a_gradient():
    logits = torch.tensor([[1.0, 1.0, 5.0], [1.0, 2.0, 3.0]], requires_grad=True)
    weights = masked_softmax(logits, torch.tensor([[True, True, False], [False, False, False]]))
    assert weights.tolist() == [[0.5, 0.5, 0.0], [0.0, 0.0, 0.0]]
    weights.square().sum().backward()
    assert torch.isfinite(logits.grad).all()


@every_encoder
def test_a_new_network_gives_the_log_odds_of_the_simpler_ranker(name):
    batch = lists(7)
    scored = score_lists(tiny_network(name), batch, ad_table())
    assert torch.equal(scored.click, batch.offsets)
    assert torch.equal(scored.conversion, batch.conversion_offsets)


@every_encoder
def test_padding_changes_nothing(name):
    batch, network = lists(7), woken(tiny_network(name))
    longer = clicks(network, padded(batch, ads=2, behaviours=3))[:, :6]
    assert torch.allclose(longer[batch.present], clicks(network, batch)[batch.present], atol=1e-5)


@every_encoder
def test_a_list_is_scored_the_same_alone(name):
    batch, network = lists(7), woken(tiny_network(name))
    alone = torch.cat([clicks(network, batch.rows(torch.tensor([row]))) for row in range(7)])
    assert torch.allclose(alone, clicks(network, batch), atol=1e-5)


@every_encoder
def test_a_cold_user_and_an_ad_without_text_have_finite_scores(name):
    batch = lists(3)
    cold = replace(
        batch,
        behaviours=replace(batch.behaviours, present=torch.zeros_like(batch.behaviours.present)),
        texts=torch.zeros_like(batch.texts),
        items=torch.zeros_like(batch.items),  # ad 0 has no text
    )
    assert torch.isfinite(clicks(woken(tiny_network(name)), cold)).all()


@pytest.mark.parametrize("name", ["lstm", "transformer"])
@pytest.mark.parametrize(
    "change", [{"items": 39}, {"kinds": 3}, {"residuals": 2.0}, {"age_days": 400.0}, {"hidden": True}]
)
def test_what_a_behaviour_was_matters(name, change):
    batch, network = lists(3), woken(tiny_network(name))
    other = replace(batch, behaviours=changed(batch.behaviours, **change))
    difference = (clicks(network, other) - clicks(network, batch)).abs().amax(dim=1)
    assert difference[1] > 1e-4
    assert difference[[0, 2]].max() < 1e-6


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_the_order_of_behaviours_matters(name):
    batch, network = lists(3, behaviours=2), woken(tiny_network(name))
    full = replace(batch, behaviours=replace(batch.behaviours, present=torch.ones(3, 2, dtype=torch.bool)))
    swapped = full.behaviours.taken(torch.tensor([[1, 0]] * 3))
    swapped = replace(swapped, age_days=full.behaviours.age_days)
    assert (clicks(network, replace(full, behaviours=swapped)) - clicks(network, full)).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_hidden_behaviour_does_not_tell_its_ad(name):
    batch, network = lists(3), woken(tiny_network(name))
    hidden = changed(batch.behaviours, hidden=True)
    other = changed(hidden, items=39)
    assert torch.equal(
        clicks(network, replace(batch, behaviours=hidden)), clicks(network, replace(batch, behaviours=other))
    )


def test_the_text_encoder_reads_the_texts_and_no_behaviours():
    batch, network = lists(3), woken(tiny_network("text"))
    other = replace(batch, behaviours=replace(batch.behaviours, items=batch.behaviours.items.flip(0)))
    assert torch.allclose(clicks(network, other), clicks(network, batch), atol=1e-6)
    swapped = clicks(network, replace(batch, texts=batch.texts.flip(1)))
    assert (swapped - clicks(network, batch)).abs().max() > 1e-3  # clicks are not skips


def test_at_first_a_text_resembles_the_ad_that_it_names():
    network = new_network(
        NetworkShape(config=NetworkConfig(behaviours="text"), text_width=16, fields=1, numbers=0), seed=1
    )
    vectors = F.normalize(torch.randn(40, 16, generator=torch.Generator().manual_seed(3)), dim=1)
    candidates = network.norm(network.ads(vectors, torch.arange(40)[None, :, None], torch.zeros(1, 40, 0)))
    texts = torch.stack([vectors[7], torch.zeros(16)])[None]  # who clicked ad 7 and skipped none
    encoded = network.history(candidates, lists(1).behaviours, network.ads.project(texts))
    signals = network.attention(candidates, encoded)[1].unflatten(-1, (2, network.attention.heads, 3))
    by_similarity = signals[0, :, 1, :, 0].sum(dim=1)  # (40,), of residuals
    assert by_similarity.argmax() == 7


@pytest.mark.parametrize("name", ["lstm", "transformer"])
def test_a_causal_token_knows_nothing_of_later_behaviours(name):
    torch.manual_seed(1)
    encoder = behaviour_encoder(NetworkConfig(behaviours=name, width=8, heads=2, dropout=0.0)).eval()
    batch = lists(4, behaviours=5)
    behaviours = replace(batch.behaviours, present=torch.ones(4, 5, dtype=torch.bool))
    ads, later = torch.randn(4, 5, 8), torch.randn(4, 2, 8)
    tokens = encoder(ads, behaviours, batch.texts, causal=True).tokens
    others = encoder(torch.cat([ads[:, :3], later], dim=1), behaviours, batch.texts, causal=True).tokens
    assert torch.allclose(tokens[:, :4], others[:, :4], atol=1e-6)
    assert (tokens[:, 4:] - others[:, 4:]).abs().max() > 1e-2


def test_gaps_double_from_bucket_to_bucket_and_the_start_stands_apart():
    hour = 1 / 24
    buckets = gap_buckets(torch.tensor([[3 * hour, 2 * hour, 0.0]]))[0]
    assert buckets.tolist() == [
        [START_BUCKET] * 4,
        [START_BUCKET, 0, 1, 2],  # 0, 1 and 3 hours
        [START_BUCKET, 1, 0, 1],  # 1, 0 and 2 hours
        [START_BUCKET, 2, 1, 0],
    ]


def test_the_fields_of_an_ad_are_weighed_by_global_attention():
    torch.manual_seed(1)
    network = AdNetwork(NetworkConfig(width=4, heads=1), text_width=2, fields=2, numbers=0)
    network.project.weight.data = torch.tensor([[1.0, 0], [0, 1], [0, 0], [0, 0]]) / 2**0.5
    network.focus.weight.data = torch.tensor([[100.0, 0, 0, 0]])  # looks for the first direction
    vectors, none = torch.eye(2), torch.zeros(3, 0)
    said = network(vectors, torch.tensor([[0, 1], [1, 1], [-1, 1]]), none)
    assert torch.allclose(said, torch.tensor([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 1, 0, 0]]), atol=1e-6)


def test_target_attention_gives_the_signals_of_what_resembles_the_candidate():
    attention = TargetAttention(NetworkConfig(width=4, heads=1))
    for linear in (attention.query, attention.key):
        linear.weight.data = 20.0 * torch.eye(4)
    encoder = behaviour_encoder(NetworkConfig(width=4, heads=1))
    encoded = encoder.tokens(torch.eye(4)[None, :2], lists(1, behaviours=2).behaviours)
    encoded = encoded._replace(
        tokens=torch.cat([torch.zeros(1, 1, 4), torch.eye(4)[None, :2]], dim=1),
        signals=torch.tensor([[[0.0, 0, 0], [0.7, 1, 0], [-0.3, 0, 1]]]),
        present=torch.ones(1, 3, dtype=torch.bool),
    )
    said = attention(torch.eye(4)[None, :2], encoded)[1][0]  # candidates that are each one of the behaviours
    assert torch.allclose(said[:, :3], torch.tensor([[0.7, 1, 0], [-0.3, 0, 1]]), atol=1e-6)
    assert torch.allclose(said[:, 3:], said[:, :3] * 200.0 / 12**0.5, atol=1e-4)


def test_the_texts_of_a_batch_are_taken_once():
    batch, table = lists(7), ad_table()
    ads = ads_of(batch, table)
    assert len(ads.vectors) == len(torch.unique(ads.vectors, dim=0))
    row, ad = 1, 0
    assert torch.equal(ads.vectors[ads.fields[row, ad, 0]], table.vectors[table.fields[batch.items[row, ad], 0]])
    assert (ads.fields[~batch.present] == -1).all()
    assert (ads.behaviour_fields[0] == -1).all()  # user 0 is cold


def test_a_saved_network_scores_as_before(tmp_path):
    network, batch = woken(tiny_network()), lists(7)
    save_network(network, tmp_path)
    assert torch.equal(clicks(load_network(tmp_path), batch), clicks(network, batch))


def test_a_folder_without_weights_is_refused_with_its_name(tmp_path):
    save_network(tiny_network(), tmp_path)
    (tmp_path / "network.safetensors").unlink()
    with pytest.raises(ModelError, match=r"network .*: cannot be opened"):
        load_network(tmp_path)


def test_heads_must_divide_the_width():
    with pytest.raises(ValueError, match="heads is 3, expected a divisor of width 8"):
        NetworkConfig(width=8, heads=3)
