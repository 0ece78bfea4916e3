from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model import adapter_training
from llmrec_spark.model.ad_encoder import AdEncoder, encoder_digest, encoder_files, load_ad_encoder
from llmrec_spark.model.adapter_training import Pairs, adapt_encoder, contrastive_pairs, info_nce
from llmrec_spark.model.encoder_adapter import ADAPTER_FILES, Bottlenecks, new_adapter
from llmrec_spark.model.training_checkpoint import remove_checkpoints
from llmrec_spark.model.training_sample import Examples, ShownBefore

SMALL = [["light shoes"], ["red shoes"], ["dark roast coffee"], ["espresso"], ["dog food"], ["dog toys"]]
FOLLOWED = Pairs(np.array([0, 1, 4, 5] * 12), np.array([2, 3, 5, 4] * 12))  # shoes by coffee, dogs by dogs
KINDS = ["lora", "adalora", "prefix", "bottleneck", "full"]
SETTINGS = {"rank": 4, "prefix_tokens": 4, "batch_pairs": 4, "epochs": 3, "learning_rate": 3e-3}
LAST = EncoderConfig(pooling="last")


def settings(kind, **change):
    return AdapterConfig(**SETTINGS | {"kind": kind} | change)


def adapted(folder, source, kind, **change):
    """The vectors of SMALL by an adapted GPT-like encoder, and its losses."""
    losses = adapt_encoder(folder, source, LAST, FOLLOWED, SMALL, settings(kind, **change))
    return vectors(folder), losses


def vectors(folder):
    return AdEncoder(str(folder), LAST, "cpu").encode([one for [one] in SMALL], 512).vectors


def margin(found):
    """How much closer shoes are to coffee than to dogs."""
    alike = found @ found.T
    return float(alike[:2, 2:4].mean() - alike[:2, 4:].mean())


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_same_people_click_comes_closer_and_the_base_stays_as_it_was(kind, gpt_folder, tmp_path):
    before = {name: (gpt_folder / name).read_bytes() for name in encoder_files(gpt_folder)}
    change = {} if kind == "full" else {"learning_rate": 1e-2}
    found, losses = adapted(tmp_path / "adapted", gpt_folder, kind, epochs=6, **change)
    assert margin(found) > margin(vectors(gpt_folder)) + 0.1
    assert len(losses) == 6 * 12  # of twelve steps, the last ones not always the lowest: of six ads, few are set apart
    assert {name: (gpt_folder / name).read_bytes() for name in encoder_files(gpt_folder)} == before
    own = [name for name in encoder_files(tmp_path / "adapted") if name not in before or kind == "full"]
    assert kind == "full" or own == sorted(ADAPTER_FILES)
    assert encoder_digest(tmp_path / "adapted", LAST) != encoder_digest(gpt_folder, LAST)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_pairs_give_the_same_adapter(kind, gpt_folder, tmp_path):
    for name in ("one", "two"):
        adapt_encoder(tmp_path / name, gpt_folder, LAST, FOLLOWED, SMALL, settings(kind, epochs=1))
    assert encoder_digest(tmp_path / "one", LAST) == encoder_digest(tmp_path / "two", LAST)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "adalora"])
def test_a_killed_training_goes_on_to_the_same_weights(kind, gpt_folder, tmp_path, monkeypatch):
    whole = settings(kind, epochs=1)
    adapt_encoder(tmp_path / "whole", gpt_folder, LAST, FOLLOWED, SMALL, whole)
    kept = settings(kind, epochs=1, folder=str(tmp_path / "checkpoints"), checkpoint_steps=2)
    steps = []

    def counted(adapter, step):
        steps.append(step)
        if step == 6:
            raise KeyboardInterrupt

    monkeypatch.setattr(adapter_training, "after_step", counted)
    with pytest.raises(KeyboardInterrupt):
        adapt_encoder(tmp_path / "again", gpt_folder, LAST, FOLLOWED, SMALL, kept)
    assert not (tmp_path / "again").exists()
    monkeypatch.setattr(adapter_training, "after_step", lambda _adapter, step: steps.append(step))
    adapt_encoder(tmp_path / "again", gpt_folder, LAST, FOLLOWED, SMALL, kept)
    assert steps == [*range(7), *range(6, 12)]
    assert encoder_digest(tmp_path / "again", LAST) == encoder_digest(tmp_path / "whole", LAST)
    adapt_encoder(tmp_path / "once more", gpt_folder, LAST, FOLLOWED, SMALL, kept)
    assert len(steps) == 13  # all of its steps are those of before
    assert encoder_digest(tmp_path / "once more", LAST) == encoder_digest(tmp_path / "whole", LAST)
    (tmp_path / "checkpoints" / "mine").touch()
    remove_checkpoints(tmp_path / "checkpoints")
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["mine"]


def test_another_training_does_not_go_on_from_a_checkpoint(gpt_folder, tmp_path, monkeypatch):
    kept = settings("lora", folder=str(tmp_path / "checkpoints"), checkpoint_steps=1)
    monkeypatch.setattr(adapter_training, "batch_loss", raising_after(2))
    with pytest.raises(KeyboardInterrupt):
        adapt_encoder(tmp_path / "one", gpt_folder, LAST, FOLLOWED, SMALL, kept)
    other = FOLLOWED._replace(ad=FOLLOWED.ad[::-1].copy())
    with pytest.raises(ModelError, match="begun with other pairs than now"):
        adapt_encoder(tmp_path / "two", gpt_folder, LAST, other, SMALL, kept)


def raising_after(calls):
    """batch_loss that is interrupted after as many calls."""
    real, left = adapter_training.batch_loss, [calls]

    def loss(*arguments):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return real(*arguments)

    return loss


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapted_encoder_says_when_loaded_what_it_said_last(kind, minilm_folder, tmp_path, monkeypatch):
    train, ends = adapter_training._train, []

    def watched(encoder, *arguments, **options):
        losses = train(encoder, *arguments, **options)
        ends.append(encoder.encode(["light shoes", "dog food"], 64).vectors)
        return losses

    monkeypatch.setattr(adapter_training, "_train", watched)
    few, folder = Pairs(FOLLOWED.behaviour[:8], FOLLOWED.ad[:8]), tmp_path / "adapted"
    adapt_encoder(folder, minilm_folder, EncoderConfig(), few, SMALL, settings(kind, epochs=2))
    found = load_ad_encoder(str(folder), EncoderConfig(), "cpu").encode(["light shoes", "dog food"], 64).vectors
    np.testing.assert_allclose(found, ends[0], atol=5e-6)
    base = load_ad_encoder(str(minilm_folder), EncoderConfig(), "cpu").encode(["light shoes", "dog food"], 64).vectors
    assert np.abs(found - base).max() > 2e-5
    half = load_ad_encoder(str(folder), EncoderConfig(dtype="bfloat16"), "cpu").encode(["light shoes"], 64).vectors
    assert float((half * found[0]).sum()) > 0.999


def test_an_adapter_names_no_path_and_lies_beside_the_base_itself(minilm_folder, tmp_path):
    folder, few = tmp_path / "adapted", Pairs(FOLLOWED.behaviour[:4], FOLLOWED.ad[:4])
    adapt_encoder(folder, minilm_folder, EncoderConfig(), few, SMALL, settings("lora"))
    said = json.loads((folder / "adapter" / "adapter_config.json").read_text())
    assert said["base_model_name_or_path"] is None
    assert said["target_modules"] == sorted(said["target_modules"])  # the same bytes in another process
    linked = (folder / "model.safetensors").stat()
    assert linked.st_ino == (minilm_folder / "model.safetensors").stat().st_ino


def test_a_new_bottleneck_changes_nothing(minilm_folder):
    encoder = AdEncoder(str(minilm_folder), EncoderConfig(), "cpu")
    before = encoder.encode(["light shoes"], 64).vectors
    _, adapter = new_adapter(encoder.model, AdapterConfig(kind="bottleneck"), steps=1)
    assert isinstance(adapter, Bottlenecks)
    assert np.array_equal(encoder.encode(["light shoes"], 64).vectors, before)


def test_a_prefix_that_leaves_no_place_for_a_text_is_refused(gpt_folder, tmp_path):
    with pytest.raises(ModelError, match="prefix_tokens is 257 beside 256 tokens of a text; expected at most 512"):
        adapt_encoder(tmp_path / "a", gpt_folder, LAST, FOLLOWED, SMALL, settings("prefix", prefix_tokens=257))


def test_an_encoder_that_reads_no_prefix_is_refused():
    from transformers import DistilBertConfig, DistilBertModel  # here: seconds to import, in every test process

    encoder = DistilBertModel(DistilBertConfig(dim=32, n_layers=1, n_heads=2, hidden_dim=32, vocab_size=50))
    with pytest.raises(ModelError, match=r"encoder \(DistilBertModel\): reads no prefix"):
        new_adapter(encoder, AdapterConfig(kind="prefix"), steps=1)


def test_an_adapter_without_its_weights_is_refused(gpt_folder, tmp_path):
    folder = shutil.copytree(gpt_folder, tmp_path / "encoder")
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text("{}")
    (folder / "adapter" / "adapter_model.bin").write_bytes(b"a pickle")
    with pytest.raises(ModelError, match=r"lacks adapter/adapter_model\.safetensors, expected both"):
        AdEncoder(str(folder), LAST, "cpu")


def test_the_loss_is_that_of_the_textbook():
    behaviour, ad = torch.eye(3, 2), torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    share, same = torch.tensor([0.5, 0.25, 0.5]), torch.eye(3, dtype=torch.bool)
    same[0, 2] = same[2, 0] = True  # one ad twice
    logits = [[1 / 0.5 - np.log(0.5), 0 - np.log(0.25)], [0 - np.log(0.5), 1 / 0.5 - np.log(0.25), 0 - np.log(0.5)]]
    logits += [[0 - np.log(0.25), 0 - np.log(0.5)]]
    right = [0, 1, 1]
    expected = np.mean([np.log(np.exp(row).sum()) - row[at] for row, at in zip(logits, right, strict=True)])
    assert float(info_nce(behaviour, ad, share.log(), same, 0.5)) == pytest.approx(expected)


def pairs_of(before_items, clicked_before, owner, lists, items, clicked, trains, has_text, most=100):
    n, m = len(lists), len(before_items)
    none = np.full(n, np.nan)
    examples = Examples(
        *(np.array(lists), np.zeros(n, dtype=int), np.array(items), none, np.array(clicked, dtype=bool)),
        *(none, np.zeros(n), np.zeros(n), np.array(trains, dtype=bool), np.zeros(n, dtype=bool), np.zeros(n)),
    )
    offsets = np.concatenate([[0], np.cumsum(np.bincount(owner, minlength=max(lists) + 1))])
    before = ShownBefore(
        np.array(before_items), np.array(clicked_before, dtype=bool), np.full(m, np.nan), offsets, np.zeros(m)
    )
    return contrastive_pairs(examples, before, np.array(has_text, dtype=bool), most=most, seed=3)


def test_a_pair_is_a_click_that_trains_after_another_ad_that_was_clicked():
    found = pairs_of(
        before_items=[0, 1, -1, 2, 3, 4],
        clicked_before=[1, 0, 1, 1, 1, 1],
        owner=[0, 0, 0, 1, 2, 3],  # list 4 has no history
        lists=[0, 0, 1, 1, 2, 3, 4],
        items=[5, 1, 5, 2, 3, 5, 5],
        clicked=[1, 0, 1, 1, 1, 1, 1],  # of list 1 item 2, of list 2 item 3: the same ad again
        trains=[1, 1, 1, 1, 1, 0, 1],
        has_text=[1] * 6,
    )
    assert sorted(zip(found.behaviour.tolist(), found.ad.tolist(), strict=True)) == [(0, 5), (2, 5)]


def test_items_without_a_text_make_no_pair_and_there_are_at_most_as_many_as_asked():
    world = {"before_items": [0, 1], "clicked_before": [1, 1], "owner": [0, 1], "lists": [0, 0, 1, 1]}
    world |= {"items": [2, 3, 2, 3], "clicked": [1] * 4, "trains": [1] * 4}
    assert len(pairs_of(**world, has_text=[1, 1, 1, 1]).ad) == 4
    [behaviour], [ad] = pairs_of(**world, has_text=[0, 1, 1, 0])
    assert (behaviour, ad) == (1, 2)
    assert len(pairs_of(**world, has_text=[1, 1, 1, 1], most=3).ad) == 3
