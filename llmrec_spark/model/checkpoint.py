"""A model is one folder that cannot be changed unnoticed.

    config.json            ModelConfig
    encoder/               a Hugging Face folder: safetensors, tokenizer
    centre.safetensors     the mean vector of each text field; only of a centred encoder
    keywords.json          number of ads, and in how many of them each keyword stood
    MANIFEST.json          SHA-256 of every file, and golden vectors
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.numpy import load_file, save_file

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_encoder import file_digest, load_ad_encoder

MANIFEST = "MANIFEST.json"
GOLDEN_TEXTS = ("running shoes for men, light and breathable", "运动跑鞋男 透气 轻便", "noise cancelling headphones")
GOLDEN_COSINE = 0.999
REGISTER_AGAIN = "Register the model again with jobs/register_model.py, or restore the file."


class ModelConfig(BaseModel):
    """What a model is, besides its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # of the encoder
    encoder: EncoderConfig
    encoder_digest: str
    width: int  # of the vectors
    fields: tuple[str, ...]  # text fields, in order
    centred: bool


@dataclass(frozen=True)
class Model:
    """An opened model folder; the encoder's weights stay on disk."""

    folder: Path
    config: ModelConfig
    centre: Mapping[str, np.ndarray] | None  # (D,) float32 by field
    documents: int
    document_frequency: Mapping[str, int]
    digest: str


def write_model(
    folder: Path,
    *,
    encoder_folder: Path,
    config: ModelConfig,
    centre: Mapping[str, np.ndarray] | None,
    documents: int,
    document_frequency: Mapping[str, int],
) -> str:
    """Writes a model folder, whole or not at all, and returns its digest. Raises ModelError where there is one."""
    if folder.exists():
        raise ModelError(f"model {folder}: exists already. Give another folder.")
    scratch = folder.with_name(f".{folder.name}.{os.getpid()}")
    scratch.mkdir(parents=True)
    try:
        shutil.copytree(encoder_folder, scratch / "encoder")
        (scratch / "config.json").write_text(config.model_dump_json(indent=2), encoding="utf-8")
        if centre is not None:
            save_file({name: np.ascontiguousarray(mean) for name, mean in centre.items()}, scratch / "centre.safetensors")
        keywords = {"documents": documents, "document_frequency": dict(sorted(document_frequency.items()))}
        (scratch / "keywords.json").write_text(json.dumps(keywords, ensure_ascii=False), encoding="utf-8")
        manifest = {"files": _digests(scratch), "golden": _golden(scratch, config.encoder)}
        (scratch / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
        scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return model_digest(folder)


def open_model(folder: Path) -> Model:
    """What a model folder says, its files taken as they are: `verify_model` checks them."""
    try:
        config = ModelConfig.model_validate_json((folder / "config.json").read_bytes())
        keywords = json.loads((folder / "keywords.json").read_bytes())
    except (OSError, ValueError, ValidationError) as error:
        raise ModelError(f"model {folder}: cannot be opened ({str(error).splitlines()[0]}). {REGISTER_AGAIN}") from error
    centre = load_file(folder / "centre.safetensors") if config.centred else None
    return Model(
        folder, config, centre, keywords["documents"], keywords["document_frequency"], model_digest(folder)
    )


def model_digest(folder: Path) -> str:
    """SHA-256 of the manifest, which holds the SHA-256 of every file."""
    return hashlib.sha256((folder / MANIFEST).read_bytes()).hexdigest()


def verify_model(folder: Path) -> str:
    """The digest of a model whose every file is the one its manifest names. Raises ModelError naming the first other."""
    try:
        expected = json.loads((folder / MANIFEST).read_bytes())["files"]
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"model {folder}: {MANIFEST} cannot be read ({error}). {REGISTER_AGAIN}") from error
    found = _digests(folder)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            was, now = expected.get(name, "no such file"), found.get(name, "no such file")
            raise ModelError(f"model {folder}: {name} is {now[:16]}, expected {was[:16]} (SHA-256). {REGISTER_AGAIN}")
    return model_digest(folder)


def verify_golden(folder: Path, device: str) -> None:
    """Raises ModelError where the encoder gives other vectors on this device than on the one that wrote the model."""
    golden = json.loads((folder / MANIFEST).read_bytes())["golden"]
    encoder = load_ad_encoder(str(folder / "encoder"), open_model(folder).config.encoder, device)
    vectors = encoder.encode([entry["text"] for entry in golden], 1_024).vectors
    for entry, vector in zip(golden, vectors, strict=True):
        cosine = float(vector @ np.array(entry["vector"], dtype=np.float32))
        if cosine < GOLDEN_COSINE:
            raise ModelError(
                f"model {folder}: {entry['text']!r} encoded on {device} has cosine {cosine:.4f} with its golden vector, "
                f"expected {GOLDEN_COSINE} or more. Check the versions of torch and transformers."
            )


def _golden(folder: Path, settings: EncoderConfig) -> list[dict[str, object]]:
    vectors = load_ad_encoder(str(folder / "encoder"), settings, "cpu").encode(GOLDEN_TEXTS, 1_024).vectors
    return [
        {"text": text, "vector": [round(float(x), 5) for x in vector]}
        for text, vector in zip(GOLDEN_TEXTS, vectors, strict=True)
    ]


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / MANIFEST)
    return {file.relative_to(folder).as_posix(): file_digest(file) for file in files}
