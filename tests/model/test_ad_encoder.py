from __future__ import annotations

import json
import os
import shutil

import numpy as np
import pytest
import torch

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError, TryAgainError
from llmrec_spark.model.ad_encoder import (
    checked_encoder,
    encoder_digest,
    fetch_encoder,
    load_ad_encoder,
    pool,
    token_batches,
)

TEXTS = [
    "headphones",
    "light running shoes for men",
    "",
    "运动跑鞋男 透气 轻便",
    "a film about two brothers who meet again after twenty years " * 2,
    "light running shoes for men",
    "headphones for children",
]


@pytest.fixture
def copied(minilm_folder, tmp_path):
    """A copy of the MiniLM folder; its files are hard links, so replace them, never write into them."""
    return shutil.copytree(minilm_folder, tmp_path / "copied", copy_function=os.link)


@pytest.mark.parametrize("name", ["minilm", "multilingual"])
def test_a_vector_does_not_depend_on_the_texts_around_it(name, request):
    encoder = request.getfixturevalue(name)
    together = encoder.encode(TEXTS, 4_096)
    alone = encoder.encode(TEXTS, 1)  # one text a batch
    np.testing.assert_allclose(together.vectors, alone.vectors, atol=1e-6)
    assert np.array_equal(together.tokens, alone.tokens)
    assert np.array_equal(alone.vectors[3:4], encoder.encode(TEXTS[3:4], 4_096).vectors)


@pytest.mark.parametrize("name", ["minilm", "multilingual"])
def test_vectors_are_float32_of_unit_length_in_the_order_of_the_texts(name, request):
    encoder = request.getfixturevalue(name)
    encoded = encoder.encode(TEXTS, 64)
    backwards = encoder.encode(TEXTS[::-1], 64)
    assert encoded.vectors.shape == (len(TEXTS), 384)
    assert [part.dtype for part in encoded] == [np.float32, np.int32, np.float32]
    np.testing.assert_allclose(np.linalg.norm(encoded.vectors, axis=1), 1, atol=1e-6)
    assert np.array_equal(encoded.vectors, backwards.vectors[::-1])  # the same batches, bit for bit
    assert np.array_equal(encoded.vectors[1], encoded.vectors[5])


def test_no_texts_give_no_vectors(minilm):
    encoded = minilm.encode([], 4_096)
    assert encoded.vectors.shape == (0, 384)
    assert (encoded.tokens.shape, encoded.unknown_share.shape) == ((0,), (0,))
    assert [part.dtype for part in encoded] == [np.float32, np.int32, np.float32]


def test_a_prefix_is_read_as_part_of_the_text_but_not_counted(minilm_folder, minilm):
    prefixed = load_ad_encoder(str(minilm_folder), EncoderConfig(prefix="问: "), "cpu").encode(["running shoes"], 64)
    np.testing.assert_allclose(prefixed.vectors, minilm.encode(["问: running shoes"], 64).vectors, atol=1e-6)
    assert (prefixed.tokens.tolist(), prefixed.unknown_share.tolist()) == ([2], [0.0])


def test_cls_pooling_gives_other_vectors_than_the_mean(minilm_folder, minilm):
    cls = load_ad_encoder(str(minilm_folder), EncoderConfig(pooling="cls"), "cpu").encode(TEXTS[:2], 64).vectors
    assert np.all(np.sum(cls * minilm.encode(TEXTS[:2], 64).vectors, axis=1) < 0.99)


@pytest.mark.parametrize("padded", ["right", "left"])
def test_pooling_reads_the_first_or_last_token_or_the_mean_of_those_present(padded):
    hidden = torch.tensor([[[2.0, 0.0], [4.0, 2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    if padded == "left":
        hidden, mask = hidden.roll(1, dims=1), mask.roll(1, dims=1)
    assert pool(hidden, mask, "mean").tolist() == [[3.0, 1.0]]
    assert pool(hidden, mask, "cls").tolist() == [[2.0, 0.0]]
    assert pool(hidden, mask, "last").tolist() == [[4.0, 2.0]]
    with pytest.raises(ValueError, match="'max': expected mean, cls or last"):
        pool(hidden, mask, "max")


def test_a_gpt_like_encoder_pools_the_last_token_whatever_is_padded_beside_it(gpt_folder):
    encoder = load_ad_encoder(str(gpt_folder), EncoderConfig(pooling="last"), "cpu")
    vectors = encoder.encode(TEXTS, 4_096).vectors
    np.testing.assert_allclose(vectors, encoder.encode(TEXTS, 1).vectors, atol=1e-6)
    ids = encoder.tokenizer(TEXTS[1])["input_ids"]
    with torch.inference_mode():
        last = encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1]
    np.testing.assert_allclose(vectors[1], torch.nn.functional.normalize(last, dim=0), atol=1e-6)
    assert np.isfinite(vectors[2]).all()  # of the empty text


def test_a_tokenizer_without_any_special_token_is_refused(gpt_folder, tmp_path):
    folder = shutil.copytree(gpt_folder, tmp_path / "bare")
    said = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in said.items() if k != "eos_token"}))
    with pytest.raises(ModelError, match="names no pad, eos, unk or bos token"):
        load_ad_encoder(str(folder), EncoderConfig(pooling="last"), "cpu")


def test_bfloat16_gives_nearly_the_same_vectors(minilm_folder, minilm):
    half = load_ad_encoder(str(minilm_folder), EncoderConfig(dtype="bfloat16"), "cpu").encode(TEXTS[:2], 64).vectors
    assert half.dtype == np.float32
    assert np.all(np.sum(half * minilm.encode(TEXTS[:2], 64).vectors, axis=1) > 0.999)


def test_a_long_text_is_cut_at_max_tokens(minilm_folder):
    encoder = load_ad_encoder(str(minilm_folder), EncoderConfig(max_tokens=8), "cpu")
    encoded = encoder.encode(["one two three four five six seven", "one two three four five six"], 64)
    np.testing.assert_allclose(encoded.vectors[0], encoded.vectors[1], atol=1e-6)  # eight with the special ones
    assert encoder.encode(["word " * 1_000], 64).tokens.tolist() == [8]


def test_batches_pad_to_at_most_the_budget_and_hold_every_text_once():
    ids = [[0] * length for length in (3, 9, 5, 30, 5, 1)]
    batches = list(token_batches(ids, 20))
    assert batches == [[3], [1, 2], [4, 0, 5]]  # 30 alone; 2 x 9; 3 x 5
    assert list(token_batches([], 20)) == []


def test_batches_do_not_follow_from_the_order_of_the_texts():
    ids = [[1, 2], [1, 1], [3, 0], [0, 9]]
    batches = [[ids[i] for i in batch] for batch in token_batches(ids, 4)]
    assert batches == [[ids[::-1][i] for i in batch] for batch in token_batches(ids[::-1], 4)]


def test_chinese_is_mostly_unknown_to_minilm_and_known_to_the_multilingual_encoder(minilm, multilingual):
    texts = ["春季新款女装连衣裙 显瘦", "running shoes", ""]
    assert minilm.encode(texts, 64).unknown_share.tolist() == pytest.approx([8 / 11, 0, 0])
    assert multilingual.encode(texts, 64).unknown_share.tolist() == [0, 0, 0]


def test_letters_a_unigram_tokenizer_lacks_count_as_unknown(multilingual):
    encoded = multilingual.encode(["\U00012000", "shoes \U00012000"], 64)  # a cuneiform sign
    assert encoded.unknown_share.tolist() == [0.5, pytest.approx(1 / encoded.tokens[1])]  # the other one is the space


def test_an_encoder_is_loaded_once_per_folder_settings_and_device(minilm_folder):
    encoder = load_ad_encoder(str(minilm_folder), EncoderConfig(), "cpu")
    assert load_ad_encoder(str(minilm_folder), EncoderConfig(), "cpu") is encoder
    assert load_ad_encoder(str(minilm_folder), EncoderConfig(pooling="cls"), "cpu") is not encoder


@pytest.mark.parametrize(
    "change", [{"pooling": "cls"}, {"prefix": "query: "}, {"max_tokens": 128}, {"dtype": "bfloat16"}]
)
def test_the_digest_changes_with_how_the_encoder_is_read(change, minilm_folder):
    assert encoder_digest(minilm_folder, EncoderConfig(**change)) != encoder_digest(minilm_folder, EncoderConfig())


def test_the_digest_ignores_place_order_centring_and_files_that_do_not_matter(minilm_folder, tmp_path):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    for file in sorted(minilm_folder.iterdir(), reverse=True):
        shutil.copyfile(file, folder / file.name)
    (folder / "README.md").write_text("read me")
    (folder / "pytorch_model.bin").write_bytes(b"pickle")
    settings = EncoderConfig(centred=True)
    assert encoder_digest(folder, settings) == encoder_digest(minilm_folder, EncoderConfig())


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "vocab.txt", "model.safetensors"])
def test_the_digest_changes_with_each_file_that_matters(name, copied):
    before = encoder_digest(copied, EncoderConfig())
    (copied / name).unlink()
    (copied / name).write_bytes(b"{}")
    assert encoder_digest(copied, EncoderConfig()) != before


def test_a_folder_is_used_as_it_is(minilm_folder, tmp_path):
    assert fetch_encoder(str(minilm_folder), tmp_path) == minilm_folder


def test_pickled_weights_are_refused_by_name(copied, tmp_path):
    (copied / "model.safetensors").rename(copied / "pytorch_model.bin")
    for read in (
        lambda: fetch_encoder(str(copied), tmp_path),
        lambda: load_ad_encoder(str(copied), EncoderConfig(), "cpu"),
    ):
        with pytest.raises(
            ModelError, match=r"copied: lacks \*\.safetensors \(the pickled pytorch_model\.bin is not read"
        ):
            read()


def test_a_folder_without_a_tokenizer_is_refused(copied):
    (copied / "tokenizer.json").unlink()
    with pytest.raises(ModelError, match=r"lacks tokenizer\.json, expected"):
        checked_encoder(copied)


def test_weights_that_do_not_fit_the_configuration_are_refused(copied):
    config = json.loads((copied / "config.json").read_text())
    (copied / "config.json").unlink()
    (copied / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 7}))
    with pytest.raises(ModelError, match=r"the weights lack \['encoder\.layer\.6\."):
        load_ad_encoder(str(copied), EncoderConfig(), "cpu")


def test_more_tokens_than_the_encoder_has_positions_are_refused(minilm_folder):
    with pytest.raises(ModelError, match="max_tokens is 513, expected at most its 512 positions"):
        load_ad_encoder(str(minilm_folder), EncoderConfig(max_tokens=513), "cpu")


@pytest.mark.parametrize("name", ["./no/such/folder", "/no/such/folder", "~/encoder", "a/b/c", "not a name"])
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused(name, tmp_path):
    with pytest.raises(ModelError, match=r"no such folder|neither a folder nor a model on the hub"):
        fetch_encoder(name, tmp_path)


def test_a_hub_that_does_not_answer_is_reported_with_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")  # nobody listens there
    with pytest.raises(TryAgainError, match="intfloat/multilingual-e5-small: is no folder here, and the hub") as caught:
        fetch_encoder("intfloat/multilingual-e5-small", tmp_path)
    assert caught.value.exit_code == 75
