from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_encoder import encoder_digest, load_ad_encoder
from llmrec_spark.model.checkpoint import (
    GOLDEN_TEXTS,
    NEWER,
    ModelConfig,
    open_model,
    verify_golden,
    verify_model,
    write_model,
    write_trained_model,
)
from llmrec_spark.network_config import NetworkConfig
from llmrec_spark.ranker_config import RankerConfig

FREQUENCY = {"shoes": 3, "跑鞋": 2}
CENTRE = {"title": np.arange(384, dtype=np.float32) / 384, "tags": np.ones(384, dtype=np.float32)}


def model_config(folder: Path, centred: bool, **change: object) -> ModelConfig:
    settings = EncoderConfig(centred=centred)
    values = {
        "name": "minilm",
        "encoder": settings,
        "encoder_digest": encoder_digest(folder, settings),
        "width": 384,
        "fields": ("title", "tags"),
        "centred": centred,
    }
    return ModelConfig.model_validate(values | change)


def written(folder: Path, encoder: Path, *, centred: bool = True, **change: object) -> str:
    return write_model(
        folder,
        encoder_folder=encoder,
        config=model_config(encoder, centred, **change),
        centre=CENTRE if centred else None,
        documents=7,
        document_frequency=FREQUENCY,
        golden=load_ad_encoder(str(encoder), EncoderConfig(), "cpu").encode(GOLDEN_TEXTS, 1_024).vectors,
    )


@pytest.fixture(scope="session")
def model_folder(minilm_folder, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    written(folder, minilm_folder)
    return folder


@pytest.fixture
def copied(model_folder, tmp_path) -> Path:
    """A copy of a centred model; its files are hard links, so replace them, never write into them."""
    return shutil.copytree(model_folder, tmp_path / "copied", copy_function=os.link)


def replace(file: Path, content: bytes) -> None:
    file.unlink()
    file.write_bytes(content)


def test_a_model_comes_back_as_it_was_written(model_folder, minilm_folder):
    model = open_model(model_folder)
    assert model.config == model_config(minilm_folder, centred=True)
    assert (model.documents, model.document_frequency) == (7, FREQUENCY)
    assert model.centre is not None
    assert {field: mean.tolist() for field, mean in model.centre.items()} == {k: v.tolist() for k, v in CENTRE.items()}
    assert model.digest == verify_model(model_folder)


def test_a_model_that_is_not_centred_has_no_centre(minilm_folder, tmp_path):
    digest = written(tmp_path / "model", minilm_folder, centred=False)
    assert open_model(tmp_path / "model").centre is None
    assert not (tmp_path / "model" / "centre.safetensors").exists()
    assert digest == verify_model(tmp_path / "model")


def test_the_same_model_written_twice_has_the_same_digest(model_folder, minilm_folder, tmp_path):
    assert written(tmp_path / "again", minilm_folder) == open_model(model_folder).digest
    other = written(tmp_path / "other", minilm_folder, name="another")
    assert other != open_model(model_folder).digest


def test_the_weights_are_hard_links_and_only_files_that_matter_are_taken(minilm_folder, tmp_path):
    encoder = shutil.copytree(minilm_folder, tmp_path / "encoder", copy_function=os.link)
    (encoder / "pytorch_model.bin").write_bytes(b"pickle")
    written(tmp_path / "model", encoder)
    names = {file.name for file in (tmp_path / "model" / "encoder").iterdir()}
    assert names == {file.name for file in minilm_folder.iterdir()}
    assert os.path.samefile(tmp_path / "model/encoder/model.safetensors", encoder / "model.safetensors")


def test_the_files_are_where_the_design_puts_them(model_folder):
    names = {file.name for file in model_folder.iterdir()}
    assert names == {"config.json", "encoder", "centre.safetensors", "keywords.json", "MANIFEST.json"}
    assert json.loads((model_folder / "keywords.json").read_bytes()) == {
        "documents": 7,
        "document_frequency": FREQUENCY,
    }


@pytest.mark.parametrize("name", ["config.json", "keywords.json", "centre.safetensors", "encoder/tokenizer.json"])
def test_a_changed_byte_is_refused_naming_the_file(name, copied):
    content = bytearray((copied / name).read_bytes())
    content[-1] ^= 1
    replace(copied / name, bytes(content))
    with pytest.raises(ModelError, match=f"copied: {name}: SHA-256 [0-9a-f]{{16}}, expected [0-9a-f]{{16}}. Register"):
        verify_model(copied)


def test_a_changed_byte_of_the_weights_is_refused(copied):
    content = bytearray((copied / "encoder/model.safetensors").read_bytes())
    content[50_000_000] ^= 1
    replace(copied / "encoder/model.safetensors", bytes(content))
    with pytest.raises(ModelError, match=r"encoder/model\.safetensors: SHA-256"):
        verify_model(copied)


def test_a_missing_file_is_refused_naming_it(copied):
    (copied / "encoder/vocab.txt").unlink()
    with pytest.raises(ModelError, match=r"encoder/vocab\.txt: SHA-256 no such file, expected [0-9a-f]{16}\. Register"):
        verify_model(copied)


def test_an_extra_file_is_refused_naming_it(copied):
    (copied / "encoder/modeling.py").write_text("print('hello')")
    with pytest.raises(ModelError, match=r"encoder/modeling\.py: SHA-256 [0-9a-f]{16}, expected no such file"):
        verify_model(copied)


@pytest.mark.parametrize("manifest", [None, b"", b"[]", b'{"files": {}}'])
def test_a_manifest_that_cannot_be_read_is_refused(manifest, copied):
    (copied / "MANIFEST.json").unlink()
    if manifest is not None:
        (copied / "MANIFEST.json").write_bytes(manifest)
    with pytest.raises(ModelError, match=r"MANIFEST\.json cannot be read"):
        verify_model(copied)


@pytest.mark.parametrize("name", ["config.json", "keywords.json", "centre.safetensors", "MANIFEST.json"])
def test_a_model_that_lacks_a_file_cannot_be_opened(name, copied):
    (copied / name).unlink()
    with pytest.raises(ModelError, match=f"copied: cannot be opened .*{name}"):
        open_model(copied)


def test_an_unknown_key_in_the_configuration_is_refused(copied):
    config = json.loads((copied / "config.json").read_bytes())
    replace(copied / "config.json", json.dumps(config | {"heads": 2}).encode())
    with pytest.raises(ModelError, match=r"cannot be opened .*heads"):
        open_model(copied)


def test_golden_vectors_are_found_again(model_folder):
    golden = json.loads((model_folder / "MANIFEST.json").read_bytes())["golden"]
    assert any("跑鞋" in entry["text"] for entry in golden)
    verify_golden(model_folder, "cpu")


def test_an_encoder_that_is_read_another_way_is_refused_by_its_golden_vectors(copied):
    config = json.loads((copied / "config.json").read_bytes())
    config["encoder"]["pooling"] = "cls"
    replace(copied / "config.json", json.dumps(config).encode())
    with pytest.raises(ModelError, match=r"encoded on cpu has cosine 0\.\d{4} with its golden"):
        verify_golden(copied, "cpu")


def test_a_model_is_never_written_over_another(model_folder, minilm_folder):
    with pytest.raises(ModelError, match="exists already"):
        written(model_folder, minilm_folder)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"encoder_digest": "0" * 64}, "expected 0000000000000000, which the vectors were made with"),
        ({"width": 512}, r"shape \(384,\), expected \(512,\)"),
        ({"width": 512, "centred": False}, r"golden \(3, 384\), expected \(3, 512\)"),
    ],
)
def test_a_model_that_contradicts_itself_is_not_written(change, message, minilm_folder, tmp_path):
    with pytest.raises(ModelError, match=message):
        written(tmp_path / "model", minilm_folder, **change)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("centred", [False, True])
def test_a_centred_model_has_a_centre_and_no_other_has(centred, minilm_folder, tmp_path):
    with pytest.raises(ModelError, match=f"centred is {centred}, yet mean vectors: {not centred}"):
        write_model(
            tmp_path / "model",
            encoder_folder=minilm_folder,
            config=model_config(minilm_folder, centred),
            centre=None if centred else CENTRE,
            documents=7,
            document_frequency=FREQUENCY,
            golden=np.zeros((len(GOLDEN_TEXTS), 384), dtype=np.float32),
        )


def test_opening_a_model_imports_neither_torch_nor_transformers(model_folder):
    code = (
        "import sys; from pathlib import Path; from llmrec_spark.model.checkpoint import open_model, verify_model;"
        f"open_model(Path({str(model_folder)!r})); verify_model(Path({str(model_folder)!r}));"
        "sys.exit(', '.join({'torch', 'transformers'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_trained_model_has_the_files_of_its_base_and_what_was_learned(model_folder, tmp_path):
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "ranker.json").write_text("{}", encoding="utf-8")

    reads = {"neighbours": "ease", "rerank": ("network",), "network": NetworkConfig(behaviours="text")}
    settings = RankerConfig(columns=("year",), groups=("category",), **reads)
    digest = write_trained_model(
        tmp_path / "new", model_folder, save, settings=settings, conversion_days=3, card="# A card\n"
    )
    base, trained = open_model(model_folder), open_model(tmp_path / "new")
    assert base.ranker is None
    assert trained.ranker == tmp_path / "new" / "ranker"
    assert trained.config.ranker_columns == ("year",)
    assert trained.config.ranker_groups == ("category",)
    assert trained.config.ranker_neighbours == "ease"
    assert trained.config.ranker_reads_texts
    assert trained.config.ranker_conversion_days == 3
    for newer in NEWER:
        assert newer not in (model_folder / "config.json").read_text()  # older versions open it too
    assert trained.config.ranker_reranks
    assert trained.config.encoder_digest == base.config.encoder_digest
    assert (trained.digest, verify_model(tmp_path / "new")) == (digest, digest)
    assert digest != base.digest
    of_before = trained.config.model_dump() | {"ranker_neighbours": True}  # when there was one way to find them
    assert ModelConfig.model_validate(of_before).ranker_neighbours == "co_click"
    other = {"settings": RankerConfig(), "conversion_days": 7}
    again = write_trained_model(tmp_path / "again", tmp_path / "new", save, **other, card="# Two\n")
    assert again not in (digest, base.digest)
    (tmp_path / "new" / "ranker" / "MODEL_CARD.md").write_text("changed", encoding="utf-8")
    with pytest.raises(ModelError, match=r"ranker/MODEL_CARD.md: SHA-256"):
        verify_model(tmp_path / "new")
    with pytest.raises(ModelError, match="exists already"):
        write_trained_model(tmp_path / "new", model_folder, save, **other, card="")
