from __future__ import annotations

import os
import shutil

import numpy as np
import pytest

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_encoder import encoder_files
from llmrec_spark.model.adapter_training import Pairs, adapt_encoder
from llmrec_spark.model.checkpoint import verify_model
from llmrec_spark.model.encoder_adapter import ADAPTER_FILES
from llmrec_spark.stored_models import from_store, to_store
from tests.model.test_checkpoint import written

BASE = "models:/llmrec_ad_matcher/1"


@pytest.fixture(scope="module")
def base(minilm_folder, tmp_path_factory):
    """A model of MiniLM."""
    folder = tmp_path_factory.mktemp("models") / "base"
    written(folder, minilm_folder)
    return folder


@pytest.fixture(scope="module")
def adapted(minilm_folder, tmp_path_factory):
    """A model of MiniLM after one step of LoRA."""
    encoder, folder = tmp_path_factory.mktemp("encoders") / "adapted", tmp_path_factory.mktemp("models") / "adapted"
    pairs = Pairs(np.array([0, 1]), np.array([1, 0]))
    adapt_encoder(encoder, minilm_folder, EncoderConfig(), pairs, [["shoes"], ["coffee"]], AdapterConfig(rank=2))
    written(folder, encoder, base=BASE)
    return folder


def registry(**versions):
    """What gives the folder behind a URI, as MLflow would."""

    def fetch(uri):
        if uri not in versions:
            raise FileNotFoundError(uri)
        return versions[uri]

    return fetch


def test_a_model_that_was_not_adapted_is_stored_as_it_is(base):
    assert to_store(base, registry()) == base
    assert from_store(base, registry()) == base


def test_an_adapted_model_is_stored_without_its_base_and_comes_back_whole(base, adapted):
    stored = to_store(adapted, registry(**{BASE: base}))
    assert encoder_files(stored / "encoder") == sorted(ADAPTER_FILES)
    assert {file.name for file in stored.iterdir()} == {file.name for file in adapted.iterdir()}
    whole = from_store(stored, registry(**{BASE: base}))
    assert verify_model(whole) == verify_model(adapted)
    assert from_store(adapted, registry()) == adapted  # a folder that has its base asks for none


def test_an_adapted_model_is_stored_whole_where_its_base_is_not(adapted):
    assert to_store(adapted, registry()) == adapted


def test_an_adapted_model_whose_base_is_gone_or_another_is_refused(base, adapted, tmp_path):
    stored = to_store(adapted, registry(**{BASE: base}))
    with pytest.raises(ModelError, match=rf"adapted from {BASE}, whose encoder it reads.* cannot be had"):
        from_store(stored, registry())
    other = shutil.copytree(base, tmp_path / "other", copy_function=os.link)
    (other / "encoder" / "vocab.txt").unlink()
    (other / "encoder" / "vocab.txt").write_text("another")
    with pytest.raises(ModelError, match=r"encoder/vocab\.txt: SHA-256"):
        from_store(stored, registry(**{BASE: other}))


def test_a_registry_that_does_not_answer_is_no_base_that_is_gone(base, adapted):
    def silent(uri):
        raise ConnectionError(uri)

    with pytest.raises(ConnectionError):
        from_store(to_store(adapted, registry(**{BASE: base})), silent)
