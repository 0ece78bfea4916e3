"""Texts -> unit vectors, by any Hugging Face encoder folder, BERT-like or GPT-like."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import ModelError, TryAgainError
from llmrec_spark.model.encoder_adapter import ADAPTER_FILES, is_adapted, with_adapter
from llmrec_spark.model.whole_folder import file_sha256

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tokenizer.model",
)
WEIGHTS = ("*.safetensors", "*.safetensors.index.json")
ENCODER_FILES = ("config.json", *WEIGHTS, *TOKENIZER_FILES, *ADAPTER_FILES)  # of a folder


class Encoded(NamedTuple):
    """What came of n texts, in their order."""

    vectors: np.ndarray  # (n, D) float32, unit length
    tokens: np.ndarray  # (n,) int32, of the text itself: without special ones and prefix; at most max_tokens
    unknown_share: np.ndarray  # (n,) float32, of these tokens; 0 where there are none


class AdEncoder:
    """A tokenizer and a language model on one device; batches follow from the texts alone."""

    def __init__(self, folder: str, settings: EncoderConfig, device: str) -> None:
        import transformers  # seconds to import

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        safe = {"trust_remote_code": False, "local_files_only": True}
        dtype = getattr(torch, settings.dtype)
        read_as = torch.float32 if is_adapted(Path(folder)) else dtype  # bfloat16 would round an update away
        weights = {"use_safetensors": True, "dtype": read_as, "attn_implementation": "sdpa"}
        checked_encoder(Path(folder))
        self.settings, self.device = settings, device
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder, use_fast=True, **safe)
        if self.tokenizer.pad_token is None:  # a GPT-like tokenizer has none; what stands there is masked
            self.tokenizer.pad_token = _any_special_token(folder, self.tokenizer)
        model, report = transformers.AutoModel.from_pretrained(folder, output_loading_info=True, **weights, **safe)
        missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))  # a head nobody reads
        if missing:
            raise ModelError(
                f"encoder {folder}: the weights lack {missing[:3]} ({len(missing)} in all), expected every one that "
                "config.json asks for. Save the model again with save_pretrained."
            )
        positions = getattr(model.config, "max_position_embeddings", None)
        if positions and settings.max_tokens > positions:
            raise ModelError(
                f"encoder {folder}: max_tokens is {settings.max_tokens}, expected at most its {positions} positions. "
                "Set encoding.settings.max_tokens."
            )
        self.model: Any = with_adapter(model, Path(folder)).eval().to(device=device, dtype=dtype)

    @torch.inference_mode()
    def encode(self, texts: Sequence[str], token_budget: int) -> Encoded:
        """Vectors of the texts; a batch holds at most `token_budget` padded tokens, or one text."""
        ids = self._token_ids([self.settings.prefix + text for text in texts], special=True)
        vectors = np.zeros((len(texts), self.model.config.hidden_size), dtype=np.float32)
        for batch in token_batches(ids, token_budget):
            vectors[batch] = self._unit_vectors([ids[i] for i in batch]).cpu().numpy()
        own = self._token_ids(texts, special=False)
        tokens = np.array([len(one) for one in own], dtype=np.int32)
        unknown = np.array([one.count(self.tokenizer.unk_token_id) for one in own], dtype=np.int32)
        return Encoded(vectors, tokens, (unknown / np.maximum(tokens, 1)).astype(np.float32))

    def embed(self, texts: Sequence[str], token_budget: int) -> Tensor:
        """The vectors of n texts, (n, D) on the device, with a gradient to what of the model learns."""
        ids = self._token_ids([self.settings.prefix + text for text in texts], special=True)
        batches = list(token_batches(ids, token_budget))
        vectors = torch.cat([self._unit_vectors([ids[i] for i in batch]) for batch in batches])
        return vectors[torch.tensor(np.argsort(np.concatenate(batches)), device=self.device)]

    def _unit_vectors(self, ids: list[list[int]]) -> Tensor:
        """(B, D) of the ids of B texts."""
        padded = self.tokenizer.pad({"input_ids": ids}, padding_side="right")
        inputs = {name: torch.tensor(rows, device=self.device) for name, rows in padded.items()}  # (B, L)
        hidden = self.model(**inputs).last_hidden_state  # (B, L, D)
        return F.normalize(pool(hidden.float(), inputs["attention_mask"], self.settings.pooling), dim=-1)

    def _token_ids(self, texts: Sequence[str], *, special: bool) -> list[list[int]]:
        """Ids of each text, cut at max_tokens, not padded."""
        if not texts:
            return []
        how = {"truncation": True, "max_length": self.settings.max_tokens, "padding": False}
        ids: list[list[int]] = self.tokenizer(list(texts), add_special_tokens=special, **how)["input_ids"]
        return [one or [self.tokenizer.pad_token_id] for one in ids] if special else ids  # something to pool


def token_batches(ids: Sequence[Sequence[int]], token_budget: int) -> Iterator[list[int]]:
    """Places of the texts, in batches of nearly one length that pad to at most `token_budget` tokens.

    Longest first, so that too little memory shows at once; texts of one length in order of their ids, so that the
    batches do not follow from the order the texts came in.
    """
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), tuple(ids[i])))
    start = 0
    while start < len(order):
        size = max(token_budget // max(len(ids[order[start]]), 1), 1)
        yield order[start : start + size]
        start += size


def pool(hidden: Tensor, mask: Tensor, how: str) -> Tensor:
    """hidden (B, L, D), mask (B, L) -> (B, D): the mean over the tokens, or the first or the last of them.

    The last is what a GPT-like model has read the whole text at; padding may stand on either side of the text.
    """
    if how == "mean":
        weights = mask[..., None].to(hidden.dtype)  # (B, L, 1)
        return (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
    rows, places = (torch.arange(size, device=mask.device) for size in mask.shape)
    if how == "cls":
        return hidden[rows, mask.argmax(dim=1)]
    if how == "last":
        return hidden[rows, (mask * places).argmax(dim=1)]
    raise ValueError(f"pooling {how!r}: expected mean, cls or last")


def _any_special_token(folder: str, tokenizer: PreTrainedTokenizerBase) -> str:
    for token in (tokenizer.eos_token, tokenizer.unk_token, tokenizer.bos_token):
        if token is not None:
            return str(token)
    raise ModelError(f"encoder {folder}: its tokenizer names no pad, eos, unk or bos token, expected one to pad with.")


@lru_cache(maxsize=2)
def load_ad_encoder(folder: str, settings: EncoderConfig, device: str) -> AdEncoder:
    """The encoder of a folder, loaded once per process, settings and device; the folder must not change meanwhile."""
    return AdEncoder(folder, settings, device)


def encoder_digest(folder: Path, settings: EncoderConfig) -> str:
    """SHA-256 of weights, configuration and tokenizer files, and of how they are read; not of where they are."""
    return digest_of({name: file_sha256(folder / name) for name in encoder_files(folder)}, settings)


def digest_of(files: Mapping[str, str], settings: EncoderConfig) -> str:
    """`encoder_digest` of files whose SHA-256 is known, by name."""
    digest = hashlib.sha256()
    how = settings.model_dump_json(exclude={"centred"})  # stored vectors are uncentred
    digest.update(how.encode())
    for name in sorted(files):
        digest.update(f"\0{name}\0".encode() + files[name].encode())
    return digest.hexdigest()


def encoder_files(folder: Path) -> list[str]:
    """The files of a Hugging Face folder that make the vectors; never code, pickles or other exports."""
    found = {file for pattern in ENCODER_FILES for file in folder.glob(pattern) if file.is_file()}
    return sorted(file.relative_to(folder).as_posix() for file in found)


def fetch_encoder(name: str, cache: Path) -> Path:
    """The folder of an encoder: `name` itself where it is one, otherwise the hub's, downloaded into `cache`.

    Only safetensors, configuration and tokenizer files are used. Raises ModelError or TryAgainError.
    """
    if Path(name).is_dir():
        return checked_encoder(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise ModelError(
            f"encoder {name}: no such folder. Expected one, or a hub id such as org/model. Check the path."
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        folder = snapshot_download(name, cache_dir=cache, allow_patterns=list(ENCODER_FILES), ignore_patterns=["*/*"])
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"encoder {name}: neither a folder nor a model on the hub. Check the name.") from error
    except Exception as error:  # the hub's client and the ones below it have many, for one cause
        raise TryAgainError(
            f"encoder {name}: is no folder here, and the hub does not answer ({type(error).__name__}). Give a local "
            "folder, or --embedded minilm or multilingual."
        ) from error
    return checked_encoder(Path(folder))


def checked_encoder(folder: Path) -> Path:
    """The folder, if it has config.json, tokenizer.json and safetensors. Raises ModelError naming what it lacks."""
    lacks = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if not list(folder.glob("*.safetensors")):
        pickles = ", ".join(sorted(file.name for file in folder.glob("*.bin")))
        lacks.append(f"*.safetensors (the pickled {pickles} is not read)" if pickles else "*.safetensors")
    if lacks:
        raise ModelError(
            f"encoder {folder}: lacks {', '.join(lacks)}, expected a folder with config.json, tokenizer.json and "
            "*.safetensors. Write it with save_pretrained of a recent transformers."
        )
    return folder
