"""A history -> one weighted item per behaviour, the form in which the match reads it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from llmrec_spark.model.catalogue import Catalogue


class Histories(NamedTuple):
    """The usable behaviours of U users, flat: user u owns rows offsets[u] to offsets[u + 1]."""

    row: np.ndarray  # (n,) int64 into catalogue.behaviours
    prior: np.ndarray  # (n,) float32, p_i divided by the user's largest
    offsets: np.ndarray  # (U + 1,) int64
    kept: np.ndarray  # (n,) int64, the behaviour's place in the flattened input

    def of(self, user: int) -> slice:
        """The rows of one user."""
        return slice(int(self.offsets[user]), int(self.offsets[user + 1]))


def behaviour_vectors(vectors: np.ndarray, fields: np.ndarray) -> np.ndarray:
    """u of each item, (n, D) float32: the normalised mean of its field vectors; zero where they cancel.

    vectors (V, D), fields (n, N) int32 with -1 for a missing field.
    """
    present = fields >= 0
    total = np.zeros((len(fields), vectors.shape[1]), dtype=np.float32)
    for column in range(fields.shape[1]):  # N passes of (n, D), never (n, N, D)
        total[present[:, column]] += vectors[fields[present[:, column], column]]
    return np.asarray(total / np.maximum(np.linalg.norm(total, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def encode_histories(batch: pd.DataFrame, catalogue: Catalogue) -> Histories:
    """The histories of a batch of users: columns ad_ids, query_hashes, log_priors, lists of one length or NULL.

    A behaviour whose item is not in the catalogue, or has no text, is left out.
    """
    ad_ids, lengths = flatten(batch["ad_ids"])
    hashes, _ = flatten(batch["query_hashes"])
    log_prior = flatten(batch["log_priors"])[0].astype(np.float64)
    ad_items = pd.Index(catalogue.ad_ids).get_indexer(ad_ids)
    query_items = pd.Index(catalogue.query_hashes).get_indexer(hashes)
    item = np.where(pd.isna(ad_ids), np.where(query_items >= 0, query_items + len(catalogue.ad_ids), -1), ad_items)
    row_of_item = np.full(len(catalogue.fields) + 1, -1, dtype=np.int64)  # the last one serves item -1
    row_of_item[catalogue.behaviours] = np.arange(len(catalogue.behaviours))
    row = row_of_item[item]
    kept = np.flatnonzero(row >= 0)
    user = np.repeat(np.arange(len(batch)), lengths)[kept]
    largest = np.full(len(batch), -np.inf)
    np.maximum.at(largest, user, log_prior[kept])
    offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(batch)))])
    prior = np.exp(log_prior[kept] - largest[user]).astype(np.float32)
    return Histories(row[kept], prior, offsets.astype(np.int64), kept)


def flatten(lists: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    """A column of lists -> all values (n,) object, and the length of each list (NULL: 0)."""
    filled = [() if values is None else values for values in lists]
    lengths = np.fromiter((len(values) for values in filled), dtype=np.int64, count=len(filled))
    if not lengths.sum():
        return np.empty(0, dtype=object), lengths
    return np.concatenate([np.asarray(values, dtype=object) for values in filled if len(values)]), lengths
