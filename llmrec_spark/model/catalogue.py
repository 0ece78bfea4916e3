"""What the match needs of the ads and queries of a run, as arrays in one folder that workers map into memory."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from llmrec_spark.model.checkpoint import RANKER
from llmrec_spark.model.keywords import tfidf_vectors

ARRAYS = ("vectors", "fields", "behaviours", "live", "keyword_weights", "keyword_columns", "keyword_rows")
COLUMNS, COUNTS = "columns.npy", "counts.npy"
NEIGHBOURS = ("neighbour_weights", "neighbour_columns", "neighbour_rows")
COUNTED = ("shown", "clicks", "settled", "converted")


@dataclass(frozen=True)
class Catalogue:
    """Items are ads in order of ad_id, then queries in order of their hash.

    V distinct (field, text) pairs, I items, N fields, D width, G items that can be behaviours, A live ads.
    """

    ad_ids: np.ndarray  # (number of ads,) object
    query_hashes: np.ndarray  # (number of queries,) object
    vectors: np.ndarray  # (V, D) float32, unit length, centred where the encoder is
    fields: np.ndarray  # (I, N) int32 into vectors; -1 where the item lacks the field
    keywords: csr_array  # (I, words) float32, unit length or zero
    behaviours: np.ndarray  # (G,) int32, ascending items of histories that have a text
    live: np.ndarray  # (A,) int32, ascending items that may be shown
    neighbours: csr_array | None = None  # (I, I) float32, unit length: an ad and those the same people acted on

    @property
    def live_ids(self) -> np.ndarray:
        """ad_id of each live ad, (A,) object."""
        return np.asarray(self.ad_ids[self.live])

    def save(self, folder: Path) -> None:
        """Writes one .npy file per array and the ids as JSON."""
        folder.mkdir(parents=True)
        keywords = (self.keywords.data, self.keywords.indices, self.keywords.indptr)
        arrays = (self.vectors, self.fields, self.behaviours, self.live, *keywords)
        for name, array in zip(ARRAYS, arrays, strict=True):
            np.save(folder / f"{name}.npy", array, allow_pickle=False)
        if self.neighbours is not None:
            parts = (self.neighbours.data, self.neighbours.indices, self.neighbours.indptr)
            for name, array in zip(NEIGHBOURS, parts, strict=True):
                np.save(folder / f"{name}.npy", array, allow_pickle=False)
        ids = {"ads": self.ad_ids.tolist(), "queries": self.query_hashes.tolist(), "words": self.keywords.shape[1]}
        (folder / "items.json").write_text(json.dumps(ids), encoding="utf-8")


def save_figures(
    folder: Path,
    catalogue: Catalogue,
    figures: pd.DataFrame,
    *,
    ranker: Path,
    columns: Sequence[str],
    groups: Sequence[str] = (),
) -> None:
    """Puts what a trained ranker reads beside a saved catalogue: ranker/, columns.npy (I, M + G) and counts.npy (I, 4).

    figures  ad_id, COUNTED, the M columns and the G groups that `ranker` reads, a row per ad; one without has none
    """
    shutil.copytree(ranker, folder / RANKER)
    of_ads, queries = figures.set_index("ad_id").reindex(catalogue.ad_ids), len(catalogue.query_hashes)
    read = np.pad(ad_numbers(of_ads, columns, groups), ((0, queries), (0, 0)), constant_values=np.nan)
    counts = np.pad(of_ads[list(COUNTED)].fillna(0.0).to_numpy(np.float64), ((0, queries), (0, 0)))
    np.save(folder / COLUMNS, read, allow_pickle=False)
    np.save(folder / COUNTS, counts, allow_pickle=False)


def ad_numbers(ads: pd.DataFrame, columns: Sequence[str], groups: Sequence[str]) -> np.ndarray:
    """(A, M + G) float64 of A rows: the columns as they stand, a code for each value of a group; NaN where unknown."""
    codes = [pd.factorize(ads[name])[0].astype(np.float64) for name in groups]
    parts = [*(ads[name].to_numpy(np.float64) for name in columns), *(np.where(one < 0, np.nan, one) for one in codes)]
    return np.column_stack([np.empty((len(ads), 0)), *parts])


@lru_cache(maxsize=2)
def open_catalogue(folder: str) -> Catalogue:
    """The catalogue in a folder, its arrays mapped: the workers of a node share them."""
    ids = json.loads((Path(folder) / "items.json").read_text(encoding="utf-8"))
    arrays = {name: np.load(Path(folder) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ARRAYS}
    items = len(ids["ads"]) + len(ids["queries"])
    keywords = csr_array(
        (arrays["keyword_weights"], arrays["keyword_columns"], arrays["keyword_rows"]), shape=(items, ids["words"])
    )
    neighbours = None
    if (Path(folder) / f"{NEIGHBOURS[0]}.npy").exists():
        parts = tuple(np.load(Path(folder) / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in NEIGHBOURS)
        neighbours = csr_array(parts, shape=(items, items))
    return Catalogue(
        ad_ids=np.array(ids["ads"], dtype=object),
        query_hashes=np.array(ids["queries"], dtype=object),
        vectors=arrays["vectors"],
        fields=arrays["fields"],
        keywords=keywords,
        behaviours=arrays["behaviours"],
        live=arrays["live"],
        neighbours=neighbours,
    )


def build_catalogue(
    texts: pd.DataFrame,
    queries: pd.DataFrame,
    vectors: pd.Series,
    *,
    ad_ids: Sequence[str],
    live: Sequence[str],
    behaved: Sequence[str],
    fields: Sequence[str],
    centre: Mapping[str, np.ndarray] | None,
    frequency: Mapping[str, int],
    documents: int,
    neighbours: pd.DataFrame | None = None,
) -> Catalogue:
    """Puts the texts of ads and queries, and their vectors, into arrays.

    texts    ad_id, field, text_hash, keywords; one row per ad and field
    queries  query_hash, keywords
    vectors  bytes (D float32) by text_hash, uncentred
    ad_ids   every ad that is live or in a history; `live` and `behaved` are parts of it
    neighbours  ad_id, neighbours, similarities: lists of one length, one row an ad that has any
    """
    ads, hashes = np.array(sorted(ad_ids), dtype=object), np.array(sorted(queries["query_hash"]), dtype=object)
    items = pd.Index(ads)
    queried = queries.set_index("query_hash").loc[hashes].reset_index()
    entries = pd.concat(  # one row per (item, field)
        [
            texts.assign(item=items.get_indexer(texts["ad_id"]), column=texts["field"].map(list(fields).index)),
            queried.assign(item=len(ads) + np.arange(len(hashes)), column=0, field="title", text_hash=hashes),
        ],
        ignore_index=True,
    ).sort_values(["item", "column"], ignore_index=True)  # however the rows arrived
    distinct = entries[["field", "text_hash"]].drop_duplicates().sort_values(["field", "text_hash"])
    place = pd.MultiIndex.from_frame(distinct)
    table = np.full((len(ads) + len(hashes), len(fields)), -1, dtype=np.int32)
    table[entries["item"], entries["column"]] = place.get_indexer(
        pd.MultiIndex.from_frame(entries[["field", "text_hash"]])
    )
    words: list[list[str]] = [[] for _ in range(len(table))]
    for item, keywords in zip(entries["item"], entries["keywords"], strict=True):
        words[item].extend(keywords)
    has_text = np.asarray((table >= 0).any(axis=1))
    behaved_items = np.concatenate([items.get_indexer(sorted(behaved)), len(ads) + np.arange(len(hashes))])
    return Catalogue(
        ad_ids=ads,
        query_hashes=hashes,
        vectors=centred_vectors(distinct, vectors, centre),
        fields=table,
        keywords=tfidf_vectors(words, frequency, documents),
        behaviours=behaved_items[has_text[behaved_items]].astype(np.int32),
        live=items.get_indexer(sorted(live)).astype(np.int32),
        neighbours=None if neighbours is None else neighbour_vectors(neighbours, items, len(table)),
    )


def neighbour_vectors(neighbours: pd.DataFrame, ads: pd.Index, items: int) -> csr_array:
    """Each ad as a vector of ads, 1 of itself and its similarity to each neighbour, (items, items), of unit length.

    So ads are alike that are neighbours, or have the same ones. Ads that are not among `ads` are left out.
    """
    lengths = neighbours["neighbours"].map(len).to_numpy(dtype=np.int64)
    own = np.repeat(ads.get_indexer(neighbours["ad_id"]), lengths)
    other = ads.get_indexer([ad for found in neighbours["neighbours"] for ad in found])
    near = np.array([one for found in neighbours["similarities"] for one in found], dtype=np.float64)
    known, every = (own >= 0) & (other >= 0), np.arange(len(ads))
    rows, columns = np.concatenate([every, own[known]]), np.concatenate([every, other[known]])
    table = csr_array((np.concatenate([np.ones(len(ads)), near[known]]), (rows, columns)), shape=(items, items))
    lengths_of_rows = np.sqrt(np.asarray(table.power(2).sum(axis=1)).ravel())
    table.data /= np.repeat(np.where(lengths_of_rows > 0, lengths_of_rows, 1.0), np.diff(table.indptr))
    return table.astype(np.float32)


def centred_vectors(texts: pd.DataFrame, vectors: pd.Series, centre: Mapping[str, np.ndarray] | None) -> np.ndarray:
    """Vectors of (field, text_hash) rows, (n, D) float32: less the mean of their field, of unit length again."""
    if not len(texts):
        return np.zeros((1, 1), dtype=np.float32)  # a row that no field names, so that every item can be compared
    stacked = np.frombuffer(b"".join(vectors.loc[texts["text_hash"]]), dtype="<f4").reshape(len(texts), -1)
    if centre is None:
        return stacked
    overall = np.mean(list(centre.values()), axis=0)  # of a field that no ad had when the model was registered
    shifted = stacked - np.stack([centre.get(field, overall) for field in texts["field"]])
    return np.asarray(shifted / np.maximum(np.linalg.norm(shifted, axis=1, keepdims=True), 1e-12), dtype=np.float32)
