"""The films of RankLens as the match reads them: their records, texts, and vectors, which are encoded once.

A film is an ad exactly as `jobs/load_ranklens.py` makes one of it; document frequencies and the centre of a centred
encoder come from all films, as at registration. Nothing here knows who clicked what.
"""

from __future__ import annotations

import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

from llmrec_spark.ad_texts import phrases_within
from llmrec_spark.config import Config, EncoderConfig
from llmrec_spark.errors import DataError
from llmrec_spark.model.ad_encoder import load_ad_encoder
from llmrec_spark.model.catalogue import Catalogue, build_catalogue
from llmrec_spark.model.embedded import EmbeddedName, restore_embedded_encoder
from llmrec_spark.model.match import Parameters, block_tables
from llmrec_spark.ranklens import FILES, PEOPLE_PER_FILM
from llmrec_spark.texts import field_keywords, field_text, text_hash

Person = Mapping[str, Any]
T = TypeVar("T")


class Films(NamedTuple):
    """A films with a record, in order of their id as text."""

    ids: pd.Index  # (A,)
    records: pd.DataFrame  # (A rows) movies.parquet: votes, ratings, budget, ...
    catalogue: Catalogue  # vectors by field and keyword weights; item i is film i
    tables: torch.Tensor  # (G, 2 A) of `block_tables`, all films in one block
    has_text: np.ndarray  # (A,) bool


def load_films(folder: Path, *, encoder: EmbeddedName, cache: Path, config: Config) -> Films:
    """The films of a RankLens folder, encoded. Raises DataError when one of its files is missing."""
    missing = [f"{name}.parquet" for name in FILES if not (folder / f"{name}.parquet").is_file()]
    if missing:
        raise DataError(f"{folder}: lacks {', '.join(missing)}. Expected the Parquet files of RankLens; see README.md.")
    movies = pq.read_table(folder / "movies.parquet").to_pandas()
    records = movies.assign(id=movies["id"].astype(str)).drop_duplicates("id").sort_values("id", ignore_index=True)
    texts = film_texts(records, config)
    vectors, settings = text_vectors(texts, encoder, cache, config.encoding.token_budget)
    ids = records["id"].tolist()
    catalogue = build_catalogue(
        texts,
        pd.DataFrame({"query_hash": [], "keywords": []}),
        vectors,
        ad_ids=ids,
        live=ids,
        behaved=ids,
        fields=config.text.fields,
        centre=field_means(texts, vectors) if settings.centred else None,
        frequency=Counter(word for words in texts.groupby("ad_id")["keywords"].sum() for word in set(words)),
        documents=texts["ad_id"].nunique(),
    )
    with tempfile.TemporaryDirectory() as scratch:
        catalogue.save(Path(scratch) / "catalogue")
        parameters = Parameters.of(config.match)
        tables = block_tables(str(Path(scratch) / "catalogue"), 0, len(ids), parameters, "cpu")
    has_text = (catalogue.fields[catalogue.live] >= 0).any(axis=1)
    return Films(pd.Index(ids, dtype=object), records, catalogue, tables, has_text)


def film_texts(records: pd.DataFrame, config: Config) -> pd.DataFrame:
    """One row per film and field that has a text: ad_id, field, text, text_hash, keywords, as in `ad_texts`."""
    people = zip(records["topActors"], records["director"], records["writer"], strict=True)
    phrases = {
        "title": [[title] for title in records["title"]],
        "description": [[overview] for overview in records["overview"]],
        "tags": [known(tags) for tags in records["tags"]],
        "category": [[one["name"] for one in known(genres)] for genres in records["genres"]],
        "people": [film_people(*one) for one in people],
    }
    rows = []
    for field in config.text.fields:
        for film, values in zip(records["id"], map(known, phrases[field]), strict=True):
            whole = field_text(values)
            text = whole[: config.text.max_characters].rstrip()
            kept = values if len(text) == len(whole) else phrases_within(field, values, text)
            rows.append((film, field, text, text_hash(text), field_keywords(field, kept)))
    texts = pd.DataFrame(rows, columns=["ad_id", "field", "text", "text_hash", "keywords"])
    return texts[texts["text"] != ""].reset_index(drop=True)


def film_people(actors: Sequence[Person] | None, director: Person | None, writer: Person | None) -> list[str]:
    """The names of the first actors, the director and the writer, each once."""
    cast = [one["name"] for one in known(actors)][:PEOPLE_PER_FILM]
    makers = [one["name"] for one in known([director, writer])]
    return list(dict.fromkeys(known([*cast, *makers])))


def known(values: Sequence[T | None] | None) -> list[T]:
    """The values that are not NULL."""
    return [] if values is None else [value for value in values if value is not None]


def text_vectors(
    texts: pd.DataFrame, encoder: EmbeddedName, cache: Path, token_budget: int
) -> tuple[pd.Series, EncoderConfig]:
    """Vectors as bytes (D float32) by text_hash, uncentred, and how the encoder reads; `cache` keeps what it learns.

    In `cache` there is one file per encoder: hashes (n, 32) uint8, vectors (n, D), and the settings as metadata.
    """
    file = cache / f"{encoder}.safetensors"
    distinct = texts.drop_duplicates("text_hash")
    stored, settings = read_vectors(file)
    missing = distinct[~distinct["text_hash"].isin(stored.index)]
    if not len(missing) and settings is not None:
        return stored, settings
    print(f"{len(missing):,} texts to encode ...", file=sys.stderr, flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        settings = restore_embedded_encoder(encoder, Path(scratch) / "encoder")
        loaded = load_ad_encoder(str(Path(scratch) / "encoder"), settings, "cpu")
        encoded = loaded.encode(missing["text"].tolist(), token_budget).vectors
    new = pd.Series([vector.tobytes() for vector in encoded], index=missing["text_hash"], dtype=object)
    vectors = pd.concat([stored, new])
    write_vectors(file, vectors, settings)
    return vectors, settings


def read_vectors(file: Path) -> tuple[pd.Series, EncoderConfig | None]:
    """What a cache file holds; nothing and None where there is none."""
    if not file.is_file():
        return pd.Series(dtype=object), None
    with safe_open(file, framework="numpy") as opened:
        settings = EncoderConfig.model_validate_json(opened.metadata()["settings"])
        hashes, vectors = opened.get_tensor("hashes"), opened.get_tensor("vectors")
    return pd.Series([one.tobytes() for one in vectors], index=[one.tobytes().hex() for one in hashes]), settings


def write_vectors(file: Path, vectors: pd.Series, settings: EncoderConfig) -> None:
    """Writes a cache file, which appears complete or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    hashes = np.frombuffer(b"".join(map(bytes.fromhex, vectors.index)), dtype=np.uint8).reshape(len(vectors), -1)
    stacked = np.frombuffer(b"".join(vectors), dtype="<f4").reshape(len(vectors), -1)
    with tempfile.TemporaryDirectory(dir=file.parent) as scratch:
        new = Path(scratch) / file.name
        save_file({"hashes": hashes, "vectors": stacked}, new, metadata={"settings": settings.model_dump_json()})
        new.replace(file)


def field_means(texts: pd.DataFrame, vectors: pd.Series) -> dict[str, np.ndarray]:
    """The mean vector of each field over the films that have it, (D,) float32."""
    means = {}
    for field, rows in texts.groupby("field"):
        stacked = np.frombuffer(b"".join(vectors.loc[rows["text_hash"]]), dtype="<f4").reshape(len(rows), -1)
        means[str(field)] = stacked.mean(axis=0, dtype=np.float64).astype(np.float32)
    return means
