"""Texts -> unit vectors, by any BERT-like Hugging Face encoder folder."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError, TryAgainError

TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")
HUB_PATTERNS = ["config.json", "*.safetensors", "*.safetensors.index.json", *TOKENIZER_FILES]


class Encoded(NamedTuple):
    """What came of n texts, in their order."""

    vectors: np.ndarray  # (n, D) float32, unit length
    tokens: np.ndarray  # (n,) int32, without special ones
    unknown_share: np.ndarray  # (n,) float32, of these tokens


class AdEncoder:
    """A tokenizer and a language model on one device; batches follow from the texts alone."""

    def __init__(self, folder: str, settings: EncoderConfig, device: str) -> None:
        import transformers  # seconds to import

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        safe = {"trust_remote_code": False, "local_files_only": True}
        self.settings, self.device = settings, device
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, **safe)
        model, report = transformers.AutoModel.from_pretrained(
            folder, use_safetensors=True, dtype=getattr(torch, settings.dtype), output_loading_info=True, **safe
        )
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))  # a head nobody reads
        if missing:
            raise ModelError(f"encoder {folder}: the weights lack {missing[:3]} ({len(missing)} in all). Save it again.")
        self.model = model.eval().to(device)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], token_budget: int) -> Encoded:
        """Vectors of the texts; a batch holds at most `token_budget` padded tokens, or one text."""
        prefixed = [self.settings.prefix + text for text in texts]
        ids = self.tokenizer(prefixed, truncation=True, max_length=self.settings.max_tokens)["input_ids"] if texts else []
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for batch in token_batches(ids, token_budget):
            padded = self.tokenizer.pad({"input_ids": [ids[i] for i in batch]}, return_tensors="pt").to(self.device)
            hidden = self.model(**padded).last_hidden_state  # (B, L, D)
            pooled = pool(hidden.float(), padded["attention_mask"], self.settings.pooling)
            vectors[batch] = F.normalize(pooled, dim=-1).cpu().numpy()
        tokens, unknown = self._count(texts)
        return Encoded(vectors, tokens, unknown)

    def _count(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        limit = self.settings.max_tokens
        ids = self.tokenizer(list(texts), add_special_tokens=False, truncation=True, max_length=limit)["input_ids"] if texts else []
        tokens = np.array([len(one) for one in ids], dtype=np.int32)
        unknown = np.array([one.count(self.tokenizer.unk_token_id) for one in ids], dtype=np.float32)
        return tokens, unknown / np.maximum(tokens, 1)


def token_batches(ids: Sequence[Sequence[int]], token_budget: int) -> Iterator[list[int]]:
    """Places of the texts, in batches of nearly one length that pad to at most `token_budget` tokens."""
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), tuple(ids[i])))  # longest first: memory shows at once
    start = 0
    while start < len(order):
        size = max(token_budget // max(len(ids[order[start]]), 1), 1)
        yield order[start : start + size]
        start += size


def pool(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """hidden (B, L, D), mask (B, L) -> (B, D): the mean over the tokens, or the first token."""
    if how == "mean":
        weights = mask[..., None].to(hidden.dtype)  # (B, L, 1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    if how == "cls":
        return hidden[:, 0]
    raise ValueError(f"pooling {how!r}: expected mean or cls")


@lru_cache(maxsize=2)
def load_ad_encoder(folder: str, settings: EncoderConfig, device: str) -> AdEncoder:
    """The encoder of a folder, loaded once per process, settings and device."""
    return AdEncoder(folder, settings, device)


def encoder_digest(folder: Path, settings: EncoderConfig) -> str:
    """SHA-256 of weights, configuration and tokenizer files, and of how they are read; not of where they are."""
    digest = hashlib.sha256()
    how = settings.model_dump_json(exclude={"centred"})  # stored vectors are uncentred
    digest.update(how.encode())
    for file in _encoder_files(folder):
        digest.update(f"\0{file.name}\0".encode() + file_digest(file).encode())
    return digest.hexdigest()


def file_digest(file: Path) -> str:
    """SHA-256 of a file, as hex digits."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _encoder_files(folder: Path) -> list[Path]:
    named = [folder / name for name in ("config.json", *TOKENIZER_FILES)]
    return sorted([file for file in named if file.is_file()] + list(folder.glob("*.safetensors")))


def fetch_encoder(name: str, cache: Path) -> Path:
    """The folder of an encoder: `name` itself where it is one, otherwise the hub's, downloaded into `cache`.

    Only safetensors, configuration and tokenizer files are used. Raises ModelError or TryAgainError.
    """
    if Path(name).is_dir():
        return checked_encoder(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(f"encoder {name}: no such folder. Expected a Hugging Face folder or a hub id such as org/model.")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        folder = snapshot_download(name, cache_dir=cache, allow_patterns=HUB_PATTERNS)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"encoder {name}: neither a folder nor a model on the hub. Check the name.") from error
    except Exception as error:  # the hub's client has many, for one cause
        raise TryAgainError(
            f"encoder {name}: is no folder here, and the hub does not answer ({type(error).__name__}). Give a local "
            "folder, or --embedded minilm or multilingual."
        ) from error
    return checked_encoder(Path(folder))


def checked_encoder(folder: Path) -> Path:
    """The folder, if it holds config.json, a tokenizer and safetensors weights. Raises ModelError naming what it lacks."""
    lacks = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        lacks.append("*.safetensors (pickled weights are not read: save the model with safe_serialization)")
    if lacks:
        raise ModelError(f"encoder {folder}: lacks {', '.join(lacks)}. Expected a folder written by save_pretrained.")
    return folder


