"""A model is one folder that cannot be changed unnoticed.

config.json            ModelConfig
encoder/               a Hugging Face folder: safetensors, tokenizer; encoder_adapter says what adapter/ in it is
centre.safetensors     the mean vector of each text field; only of a centred encoder
keywords.json          number of ads, and in how many of them each keyword stood
ranker/                what training added, only of a trained model: taste_ranker, and MODEL_CARD.md
MANIFEST.json          SHA-256 of every file, and golden vectors
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, field_validator
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.whole_folder import file_sha256, link_or_copy, whole_folder
from llmrec_spark.ranker_config import RankerConfig

MANIFEST = "MANIFEST.json"
RANKER, CARD = "ranker", "MODEL_CARD.md"
GOLDEN_TEXTS = ("running shoes for men, light and breathable", "运动跑鞋男 透气 轻便", "noise cancelling headphones")
GOLDEN_COSINE = 0.999
GOLDEN_BUDGET = 1_024  # padded tokens of a batch
NEWER = ("ranker_neighbours", "ranker_reads_texts", "ranker_conversion_days")  # keys that versions before lack
REGISTER_AGAIN = "Register the model again with jobs/register_model.py --alias champion, or restore the file."


class ModelConfig(BaseModel):
    """What a model is, besides its weights."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # of the encoder
    encoder: EncoderConfig
    encoder_digest: str
    width: int  # of the vectors
    fields: tuple[str, ...]  # text fields, in order
    centred: bool
    base: str | None = None  # of an adapted encoder, the registered version whose encoder the adapter changes
    ranker_columns: tuple[str, ...] | None = None  # of ads, numbers that a trained model reads; None: untrained
    ranker_groups: tuple[str, ...] = ()  # of ads, words that it reads
    ranker_neighbours: str | None = None  # how it is found which ads the same people acted on, of one that reads it
    ranker_reranks: bool = False  # whether it scores the best ads of a user anew
    ranker_reads_texts: bool = False  # whether it reads the histories of users as texts
    ranker_conversion_days: float | None = None  # after a click in which a conversion was credited to it

    @field_validator("ranker_neighbours", mode="before")
    @classmethod
    def of_before_there_were_two(cls, found: object) -> object:
        """True or false of a model that was trained when there was one way to find neighbours."""
        return "co_click" if found is True else found or None


@dataclass(frozen=True)
class Model:
    """An opened model folder; the encoder's weights stay on disk."""

    folder: Path
    config: ModelConfig
    centre: Mapping[str, np.ndarray] | None  # (D,) float32 by field
    documents: int
    document_frequency: Mapping[str, int]
    digest: str

    @property
    def ranker(self) -> Path | None:
        """The folder of what was trained."""
        return None if self.config.ranker_columns is None else self.folder / RANKER


def write_model(
    folder: Path,
    *,
    encoder_folder: Path,
    config: ModelConfig,
    centre: Mapping[str, np.ndarray] | None,
    documents: int,
    document_frequency: Mapping[str, int],
    golden: np.ndarray,
) -> str:
    """Writes a model folder, whole or not at all, and returns its digest. Raises ModelError where there is one.

    golden (G, D) float32: the vectors of GOLDEN_TEXTS where the encoder ran, which other machines must give again.
    The encoder's files are hard links where the file system allows it: change none of them in place afterwards.
    """
    from llmrec_spark.model.ad_encoder import digest_of, encoder_files  # here: opening a model needs no torch

    refuse_existing(folder)
    _check_centre(folder, config, centre)
    if golden.shape != (len(GOLDEN_TEXTS), config.width):
        raise ModelError(f"model {folder}: golden {golden.shape}, expected {(len(GOLDEN_TEXTS), config.width)}.")
    with whole_folder(folder) as new:
        (new / "encoder").mkdir()
        for name in encoder_files(encoder_folder):
            (new / "encoder" / name).parent.mkdir(exist_ok=True)
            link_or_copy((encoder_folder / name).resolve(), new / "encoder" / name)
        (new / "config.json").write_text(_written(config), encoding="utf-8")
        if centre is not None:
            means = {field: np.ascontiguousarray(mean, dtype=np.float32) for field, mean in centre.items()}
            save_file(means, new / "centre.safetensors")
            (new / "centre.safetensors").chmod(0o644)  # safetensors lets only the owner read
        keywords = {"documents": documents, "document_frequency": dict(sorted(document_frequency.items()))}
        (new / "keywords.json").write_text(json.dumps(keywords, ensure_ascii=False), encoding="utf-8")
        files = _digests(new)
        of_encoder = {name.removeprefix("encoder/"): sha for name, sha in files.items() if name.startswith("encoder/")}
        if (found := digest_of(of_encoder, config.encoder)) != config.encoder_digest:
            raise ModelError(
                f"model {folder}: the encoder in {encoder_folder} has digest {found[:16]}, expected "
                f"{config.encoder_digest[:16]}, which the vectors were made with. Encode the ads again."
            )
        manifest = {"files": files, "golden": _golden_entries(golden)}
        (new / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    return model_digest(folder)


def refuse_existing(folder: Path) -> None:
    """Raises ModelError where a model is to be written and something is there: no model is replaced."""
    if folder.exists():
        raise ModelError(f"model {folder}: exists already, expected no such folder. Give another folder.")


def write_trained_model(
    folder: Path,
    base: Path,
    save_ranker: Callable[[Path], None],
    *,
    settings: RankerConfig,
    conversion_days: float,
    card: str,
) -> str:
    """The model `base` with what `save_ranker` writes into a new folder, and a model card; returns its digest.

    settings are those that it was trained with, which say what it reads; conversion_days those of its examples. Whole
    or not at all. Encoder, centre and keywords are those of `base`, hard links where the file system allows it.
    """
    refuse_existing(folder)
    verify_model(base)
    with whole_folder(folder) as new:
        for name in _digests(base):
            if name != "config.json" and not name.startswith(f"{RANKER}/"):
                (new / name).parent.mkdir(parents=True, exist_ok=True)
                link_or_copy(base / name, new / name)
        reads = {
            "ranker_columns": settings.columns,
            "ranker_groups": settings.groups,
            "ranker_neighbours": settings.neighbours,
            "ranker_reranks": bool(settings.rerank),
            "ranker_reads_texts": settings.reads_texts,
            "ranker_conversion_days": conversion_days,
        }
        config = open_model(base).config.model_copy(update=reads)
        (new / "config.json").write_text(_written(config), encoding="utf-8")
        save_ranker(new / RANKER)
        (new / RANKER / CARD).write_text(card, encoding="utf-8")
        manifest = {"files": _digests(new), "golden": _manifest(base)["golden"]}
        (new / MANIFEST).write_text(json.dumps(manifest, ensure_ascii=False, indent=1), encoding="utf-8")
    return model_digest(folder)


def open_model(folder: Path) -> Model:
    """What a model folder says, its files taken as they are: `verify_model` checks them."""
    try:
        config = ModelConfig.model_validate_json((folder / "config.json").read_bytes())
        keywords = json.loads((folder / "keywords.json").read_bytes())
        documents, frequency = keywords["documents"], keywords["document_frequency"]
        centre = load_file(folder / "centre.safetensors") if config.centred else None
        digest = model_digest(folder)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"model {folder}: cannot be opened ({reason}). {REGISTER_AGAIN}") from error
    _check_centre(folder, config, centre)
    return Model(folder, config, centre, documents, frequency, digest)


def model_digest(folder: Path) -> str:
    """SHA-256 of the manifest, which holds the SHA-256 of every file."""
    return file_sha256(folder / MANIFEST)


def verify_model(folder: Path) -> str:
    """The digest of a model whose every file is the one its manifest names.

    Raises ModelError naming the first file that is missing, changed or one too many.
    """
    expected = _manifest(folder)["files"]
    found = _digests(folder)
    for name in sorted(expected.keys() | found.keys()):
        if found.get(name) != expected.get(name):
            was, now = expected.get(name, "no such file"), found.get(name, "no such file")
            raise ModelError(f"model {folder}: {name}: SHA-256 {now[:16]}, expected {was[:16]}. {REGISTER_AGAIN}")
    return model_digest(folder)


@lru_cache(maxsize=4)
def verify_golden(folder: Path, device: str) -> None:
    """Raises ModelError where the encoder gives other vectors on this device than where it was written; asked once."""
    from llmrec_spark.model.ad_encoder import load_ad_encoder

    golden = _manifest(folder)["golden"]
    encoder = load_ad_encoder(str(folder / "encoder"), open_model(folder).config.encoder, device)
    vectors = encoder.encode([entry["text"] for entry in golden], GOLDEN_BUDGET).vectors
    for entry, vector in zip(golden, vectors, strict=True):
        cosine = float(vector @ np.array(entry["vector"], dtype=np.float32))
        if not cosine >= GOLDEN_COSINE:  # NaN too
            raise ModelError(
                f"model {folder}: {entry['text']!r} encoded on {device} has cosine {cosine:.4f} with its golden "
                f"vector, expected {GOLDEN_COSINE} or more. Check the versions of torch and transformers."
            )


def _written(config: ModelConfig) -> str:
    """As JSON, without those of the NEWER keys that say nothing: a version that lacks them opens it too."""
    newer = {name for name in NEWER if getattr(config, name) == ModelConfig.model_fields[name].default}
    return config.model_dump_json(indent=2, exclude=newer)


def _golden_entries(vectors: np.ndarray) -> list[dict[str, object]]:
    return [
        {"text": text, "vector": [round(float(x), 5) for x in vector]}
        for text, vector in zip(GOLDEN_TEXTS, vectors, strict=True)
    ]


def _check_centre(folder: Path, config: ModelConfig, centre: Mapping[str, np.ndarray] | None) -> None:
    """Raises ModelError unless a centred model, and no other, has mean vectors, all of the model's width."""
    if config.centred != (centre is not None):
        raise ModelError(f"model {folder}: centred is {config.centred}, yet mean vectors: {centre is not None}.")
    for field, mean in (centre or {}).items():
        if mean.shape != (config.width,):
            raise ModelError(f"model {folder}: centre of {field}: shape {mean.shape}, expected ({config.width},).")


def _manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        return {"files": dict(manifest["files"]), "golden": list(manifest["golden"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"model {folder}: {MANIFEST} cannot be read ({error}). {REGISTER_AGAIN}") from error


def _digests(folder: Path) -> dict[str, str]:
    files = (file for file in sorted(folder.rglob("*")) if file.is_file() and file != folder / MANIFEST)
    return {file.relative_to(folder).as_posix(): file_sha256(file) for file in files}
