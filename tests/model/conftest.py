"""The two embedded encoders, restored once per test session."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmrec_spark.config import EncoderConfig
from llmrec_spark.model.ad_encoder import AdEncoder, load_ad_encoder
from llmrec_spark.model.embedded import restore_embedded_encoder


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "minilm"
    restore_embedded_encoder("minilm", folder)
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> AdEncoder:
    return load_ad_encoder(str(minilm_folder), EncoderConfig(), "cpu")


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> AdEncoder:
    folder = tmp_path_factory.mktemp("encoders") / "multilingual"
    return load_ad_encoder(str(folder), restore_embedded_encoder("multilingual", folder), "cpu")
