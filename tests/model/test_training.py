import json
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from llmrec_spark.errors import ConfigError, DataError, ModelError
from llmrec_spark.model.network_batches import ads_of
from llmrec_spark.model.network_losses import Term
from llmrec_spark.model.pretraining import sampled_softmax
from llmrec_spark.model.ranking_network import score_lists
from llmrec_spark.model.training import RankingObjective, train
from llmrec_spark.model.training_steps import aligned, backward, learning_rate_factor, mean_loss
from llmrec_spark.network_config import TrainingSettings
from tests.model.network_data import Lists, ad_table, lists, tiny_network

NOTHING = {"epochs": 2, "checkpoint_steps": 1, "learning_rate": 0.01, "patience": None}
SWITCHES = {  # each alone, beside NOTHING
    "weight_decay": {"weight_decay": 0.5},
    "warmup": {"warmup_share": 0.9},
    "clipping": {"clip_norm": 0.01},
    "bfloat16": {"mixed_precision": True},
    "list loss": {"list_share": 3.0},
    "adversarial": {"adversarial": 0.3},
    "crop": {"augmentation": {"crop": 0.5}},
    "mask": {"augmentation": {"mask": 0.5}},
    "reorder": {"augmentation": {"reorder": 1.0}},
    "next": {"pretraining": {"objective": "next"}},
    "masked": {"pretraining": {"objective": "masked", "mask": 0.5}},
    "seed": {"seed": 2, "augmentation": {"mask": 0.5}},
}
EVERYTHING = {
    "adversarial": 0.1,
    "augmentation": {"crop": 0.2, "mask": 0.2, "reorder": 0.5},
    "pretraining": {"objective": "masked", "mask": 0.5},
}


def click_against_unclicked(scores, clicked, present):
    """softplus(logsumexp of the unclicked - score), mean over the clicked, then over the lists."""
    others = scores.masked_fill(clicked | ~present, float("-inf")).logsumexp(dim=1, keepdim=True)
    return (F.softplus(others - scores) * clicked).sum(dim=1).div(clicked.sum(dim=1)).mean()


def trained(changes, *, name="transformer", batch=None, size=4, breaks_at=None, dropout=0.3, **how):
    source = Lists(batch or lists(10), size, breaks_at=breaks_at)
    settings = TrainingSettings.model_validate({**NOTHING, **changes})
    how = {"list_loss": click_against_unclicked, "steps_per_epoch": source.steps, **how}
    return train(tiny_network(name, dropout=dropout), source, ad_table(), settings, **how)


def weights(found):
    return found.network.state_dict()


def same(one, other):
    return all(torch.equal(value, other[name]) for name, value in one.items())


def goodness(network):
    """Of other lists: less their log loss."""
    batch = lists(20, seed=9)
    logits = score_lists(network, batch, ad_table()).click[batch.present]
    return -F.binary_cross_entropy_with_logits(logits, batch.clicked[batch.present].float()).item()


@pytest.mark.parametrize("name", ["lstm", "transformer", "text"])
def test_a_network_learns_a_planted_taste(name):
    batch, held_back = lists(256), lists(64, seed=5)
    if name == "text":  # as if a language model had said which topic was clicked, and which was not
        likes = lambda one: F.one_hot((one.clicked * (one.items % 2)).any(dim=1).long(), 8).float()  # noqa: E731
        batch = replace(batch, texts=torch.stack([likes(batch), -likes(batch)], dim=1))
        held_back = replace(held_back, texts=torch.stack([likes(held_back), -likes(held_back)], dim=1))
    settings = {"epochs": 12, "learning_rate": 0.02, "checkpoint_steps": 1_000}
    network = trained(settings, name=name, batch=batch, size=64, dropout=0.0).network
    warm = held_back.present & held_back.behaviours.present.any(dim=1, keepdim=True)
    logits = score_lists(network, held_back, ad_table()).click[warm]
    right = ((logits > 0) == held_back.clicked[warm]).float().mean()
    assert right > 0.85  # the offsets alone: .5


def test_the_conversion_head_learns_what_converts_after_a_click():
    batch = lists(256)
    found = trained({"epochs": 12, "learning_rate": 0.02, "checkpoint_steps": 1_000}, batch=batch, size=64, dropout=0.0)
    logits = score_lists(found.network, batch, ad_table()).conversion
    clicked = batch.clicked & batch.conversion_known
    converted = batch.converted & clicked
    assert logits[converted].mean() > logits[clicked & ~converted].mean() + 0.5


def test_same_seed_same_weights():
    assert same(weights(trained(EVERYTHING)), weights(trained(EVERYTHING)))


@pytest.fixture(scope="module")
def whole():
    """A training that nothing interrupts: 3 steps of pre-training, then two epochs of 3 steps."""
    return trained(EVERYTHING, validate=goodness)


@pytest.mark.parametrize("killed_at", range(9))
def test_a_killed_and_resumed_training_ends_as_an_uninterrupted_one(killed_at, whole, tmp_path):
    changes = EVERYTHING | {"checkpoint_steps": 2}
    with pytest.raises(KeyboardInterrupt):
        trained(changes, validate=goodness, folder=tmp_path, breaks_at=killed_at)
    resumed = trained(changes, validate=goodness, folder=tmp_path)
    assert same(weights(resumed), weights(whole))
    assert resumed.losses == whole.losses
    assert resumed.pretraining_losses == whole.pretraining_losses
    assert resumed.validations == whole.validations
    assert [len(list(tmp_path.iterdir())), resumed.steps] == [1, 6]  # only the newest checkpoint is kept


def test_a_finished_training_is_not_done_again(tmp_path):
    first = trained(EVERYTHING, folder=tmp_path, validate=goodness)
    again = trained(EVERYTHING, folder=tmp_path, validate=goodness, breaks_at=0)  # would break at the first batch
    assert same(weights(again), weights(first))


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    trained({}, folder=tmp_path)
    with pytest.raises(ModelError, match="begun with other settings than now"):
        trained({"seed": 5}, folder=tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_refused(tmp_path):
    trained({}, folder=tmp_path)
    [folder] = tmp_path.iterdir()
    (folder / "objective.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match="cannot be read"):
        trained({}, folder=tmp_path)


def test_a_checkpoint_is_safetensors_and_json(tmp_path):
    trained({}, folder=tmp_path, validate=goodness)
    [folder] = tmp_path.iterdir()
    names = ["best.safetensors", "objective.safetensors", "optimizer.safetensors", "progress.json"]
    assert sorted(file.name for file in folder.iterdir()) == names
    assert json.loads((folder / "progress.json").read_text())["progress"]["step"] == 6


@pytest.mark.parametrize("switch", SWITCHES)
def test_each_switch_changes_the_weights(switch):
    assert not same(weights(trained(SWITCHES[switch])), weights(trained({})))


SHORT = lists(10).rows(torch.arange(1, 10))  # everyone's history is one behaviour: nothing to crop or reorder
SHORT = replace(SHORT, behaviours=SHORT.behaviours.kept(torch.arange(5) < 1))


@pytest.mark.parametrize("changes", [{"crop": 0.5}, {"reorder": 1.0}])
def test_a_switch_that_finds_nothing_to_vary_changes_no_bit(changes):
    assert same(weights(trained({"augmentation": changes}, batch=SHORT)), weights(trained({}, batch=SHORT)))


def test_varied_behaviours_change_no_bit_of_a_network_that_reads_texts():
    changes = {"augmentation": {"crop": 0.5, "mask": 0.5, "reorder": 1.0}}
    assert same(weights(trained(changes, name="text")), weights(trained({}, name="text")))


def test_the_list_share_matters_only_with_a_list_loss():
    assert same(weights(trained({"list_share": 3.0}, list_loss=None)), weights(trained({}, list_loss=None)))


def test_a_norm_that_is_never_reached_clips_nothing():
    assert same(weights(trained({"clip_norm": 1e6})), weights(trained({"clip_norm": None})))


def test_weight_decay_shrinks_matrices_and_nothing_else():
    one_step = {"epochs": 1, "learning_rate": 0.1, "warmup_share": 0.0}
    batch, first = lists(4), tiny_network(dropout=0.3).state_dict()
    with_decay = weights(trained({**one_step, "weight_decay": 0.5}, batch=batch))
    for name, value in weights(trained({**one_step, "weight_decay": 0.0}, batch=batch)).items():
        shrunk = value - 0.1 * 0.5 * first[name] if value.ndim > 1 else value
        assert torch.allclose(with_decay[name], shrunk, atol=1e-6), name


@pytest.mark.parametrize("name", ["lstm", "transformer", "text"])
def test_mixed_precision_trains_nearly_the_same(name):
    changes = {"epochs": 4, "learning_rate": 0.02}
    found, exact = (
        trained({**changes, "mixed_precision": True}, name=name, dropout=0.0),
        trained(changes, name=name, dropout=0.0),
    )
    assert found.losses == pytest.approx(exact.losses, rel=0.05)
    assert all(value.dtype == torch.float32 for value in weights(found).values())


def test_the_first_weights_and_the_callers_random_numbers_are_left_alone():
    torch.manual_seed(3)
    expected = torch.rand(3)
    torch.manual_seed(3)
    trained(EVERYTHING)
    assert torch.equal(torch.rand(3), expected)


def test_training_stops_once_validation_has_not_improved_and_keeps_the_best():
    said = iter([1.0, 3.0, 2.0, 2.5, 9.0])
    seen = []

    def validate(network):
        assert not network.training
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return next(said)

    found = trained({"epochs": 5, "patience": 2}, validate=validate)
    assert found.validations == (1.0, 3.0, 2.0, 2.5)
    assert found.best_epoch == 1
    assert same(weights(found), seen[1])
    assert not found.network.training


def test_a_validation_that_is_no_number_is_refused():
    with pytest.raises(ModelError, match="validation is nan"):
        trained({}, validate=lambda network: float("nan"))


def test_a_loss_that_is_no_number_is_refused():
    batch = lists(4)
    with pytest.raises(ModelError, match="the loss is nan in epoch 0, step 0"):
        trained({}, batch=replace(batch, offsets=batch.offsets * float("nan")))


def test_no_batch_at_all_is_refused():
    with pytest.raises(DataError, match="process 0 of 1 has no batch"):
        trained({}, batch=lists(4).rows(torch.zeros(4, dtype=torch.bool)))


def test_the_rate_rises_and_falls():
    rates = [learning_rate_factor(step, steps=10, warmup_share=0.3) for step in range(11)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[10] == 0.0
    assert learning_rate_factor(99, steps=10, warmup_share=0.3) == 0.0  # more steps than were expected
    assert learning_rate_factor(0, steps=10, warmup_share=0.0) == 1.0


def test_a_push_goes_up_the_loss_and_is_as_long_as_asked():
    batch, table, network = lists(10), ad_table(), trained({"epochs": 4}, dropout=0.0).network
    objective, seen = RankingObjective(network, None, 0.0), []

    def watched(batch, ads):
        terms = objective(batch, ads)
        seen.append((ads.vectors.detach(), mean_loss(terms, world_size=1, counts=True)[1]))
        return terms

    value = backward(
        watched, batch, ads_of(batch, table), counts=True, adversarial=0.1, mixed_precision=False, world_size=1
    )
    (clean, loss), (pushed, worse) = seen
    moved = (pushed - clean).norm(dim=-1)
    assert torch.allclose(moved[moved > 0], torch.tensor(0.1), atol=1e-4)
    assert worse > loss == value


def test_sampled_softmax_is_the_full_softmax_where_every_ad_is_drawn_as_often_as_it_is_common():
    torch.manual_seed(1)
    ads, seen = F.normalize(torch.randn(3, 4), dim=-1), torch.randn(3, 4)
    items, shares = torch.tensor([0, 1, 1, 1, 2, 2]), torch.tensor([1 / 6, 1 / 2, 1 / 3])
    found = sampled_softmax(seen[items], ads[items], items, shares[items], temperature=1.0)
    full = -(seen @ ads.T).log_softmax(dim=1).diagonal()
    assert torch.allclose(found, full[items], atol=1e-5)


def test_pretraining_learns_which_ad_comes_next():
    settings = {"pretraining": {"objective": "next", "epochs": 8, "learning_rate": 0.02}, "epochs": 1}
    found = trained(settings, batch=lists(256), size=64, dropout=0.0)
    assert len(found.pretraining_losses) == 8
    assert found.pretraining_losses[-1] < found.pretraining_losses[0] - 0.3


def test_pretraining_moves_nothing_that_it_does_not_train():
    batch = lists(10)
    network = tiny_network()
    before = {name: value.clone() for name, value in network.attention.state_dict().items()}
    settings = TrainingSettings.model_validate(
        {**NOTHING, "epochs": 1, "learning_rate": 1e-30, "pretraining": {"objective": "next"}}
    )
    found = train(network, Lists(batch, 4), ad_table(), settings, steps_per_epoch=3).network
    assert same(before, found.attention.state_dict())
    assert not torch.equal(found.ads.project.weight, tiny_network().ads.project.weight)


def test_pretraining_of_the_text_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"network\.behaviours is text"):
        trained({"pretraining": {"objective": "next"}}, name="text")


def test_a_batch_without_anything_to_guess_does_no_harm():
    batch = lists(4)
    none = replace(batch, behaviours=replace(batch.behaviours, present=torch.zeros(4, 5, dtype=torch.bool)))
    found = trained({"pretraining": {"objective": "masked"}}, batch=none)
    assert found.pretraining_losses == (0.0,)


def test_a_process_that_has_run_out_does_not_count():
    [(_batch, counts)] = list(aligned([lists(2)], rank=0, world_size=1, device="cpu"))
    assert counts
    value = torch.ones((), requires_grad=True)
    terms = [(2.0, Term(value * 6.0, torch.tensor(3.0)))]
    assert mean_loss(terms, world_size=1, counts=True)[1] == 4.0
    loss, mean = mean_loss(terms, world_size=1, counts=False)
    assert (loss.item(), mean) == (0.0, 0.0)
