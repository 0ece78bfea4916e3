"""How alike two items are, in several ways: kernels over pairs of items, each positive semi-definite.

    cosine   of the vectors of a text field, of their mean, and of sparse sets (keywords; category, tags, people by idf)
    near     exp(-(x - y)^2 / (2 width^2)) of a named column in standard deviations: year, price, ...
    slope    x y of such a column: liking one end of it
    same     1 for the item itself

What an item lacks is like nothing: its kernel is 0. A weighted sum of kernels is one number per pair of items, so a
table of behaviours x live ads holds it, block by block, as the match's C.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from torch import Tensor

from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.keywords import tfidf_vectors

WIDTH = 0.5  # of `near`, in standard deviations
FARTHEST = 3.0  # a slope's column is clipped there, in standard deviations
ROWS_AT_ONCE = 256
SLOPE = "slope of "  # begins the name of such a kernel


class ItemFeatures(NamedTuple):
    """What the kernels compare, for I items. Names are unique over all parts."""

    dense: Mapping[str, np.ndarray]  # (I, D) float32, of unit length or zero
    sparse: Mapping[str, csr_array]  # (I, words) float32, of unit length or zero
    near: Mapping[str, np.ndarray]  # (I,) float32 in standard deviations, NaN where unknown
    slopes: Mapping[str, np.ndarray]  # (I,) likewise, 0 where unknown

    @property
    def names(self) -> list[str]:
        """The kernels, in the order of the stack."""
        slopes = [f"{SLOPE}{name}" for name in self.slopes]
        return [*self.dense, *self.sparse, *(f"near in {name}" for name in self.near), *slopes, "same"]

    @property
    def slope_table(self) -> np.ndarray:
        """(I, M) the slopes side by side."""
        items = len(next(iter(self.dense.values())))
        return np.stack([*self.slopes.values(), np.zeros(items, dtype=np.float32)], axis=1)[:, :-1]


def item_features(
    catalogue: Catalogue,
    fields: Sequence[str],
    *,
    sets: Mapping[str, Sequence[Iterable[str]]] | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> ItemFeatures:
    """Features of every item of a catalogue, whose columns of `fields` are named.

    sets     values of each item by name, e.g. its tags: compared by idf-weighted overlap
    columns  (I,) float by name, NaN where unknown
    """
    dense = text_vectors(catalogue, fields, field_centres(catalogue, catalogue.live))
    sparse = {"keywords": catalogue.keywords}
    for name, values in (sets or {}).items():
        lists = [list(dict.fromkeys(one)) for one in values]
        frequency = pd.Series([word for one in lists for word in one], dtype=object).value_counts().to_dict()
        sparse[f"{name} shared"] = tfidf_vectors(lists, frequency, len(lists))
    near = {name: standardised(one[:, None], catalogue.live)[:, 0] for name, one in (columns or {}).items()}
    slopes = {name: np.nan_to_num(np.clip(one, -FARTHEST, FARTHEST)) for name, one in near.items()}
    return ItemFeatures(dense, sparse, near, slopes)


def field_centres(catalogue: Catalogue, items: np.ndarray) -> np.ndarray:
    """The mean vector of each field over those of the items (n,) that have it, (N, D) float32; zero where none has."""
    centres = np.zeros((catalogue.fields.shape[1], catalogue.vectors.shape[1]), dtype=np.float32)
    for number, place in enumerate(catalogue.fields[items].T):
        if (place >= 0).any():
            centres[number] = catalogue.vectors[place[place >= 0]].mean(axis=0)
    return centres


def text_vectors(catalogue: Catalogue, fields: Sequence[str], centres: np.ndarray) -> dict[str, np.ndarray]:
    """The vectors of each field, less `centres` (N, D), and their mean, `all texts`: (I, D) float32 of every item.

    Of unit length; zero where an item lacks the field, or any text.
    """
    vectors = []
    for place, centre in zip(catalogue.fields.T, centres, strict=True):
        found = np.asarray(catalogue.vectors[np.maximum(place, 0)], dtype=np.float32) - centre
        vectors.append(unit_rows(np.where((place >= 0)[:, None], found, np.float32(0.0))))
    found = {f"{name} text": one for name, one in zip(fields, vectors, strict=True)}
    total = np.sum(vectors, axis=0) if vectors else np.zeros((len(catalogue.fields), 1), dtype=np.float32)
    return {**found, "all texts": unit_rows(total)}


def unit_rows(vectors: np.ndarray) -> np.ndarray:
    """Rows of unit length, float32; a row of (nearly) zero length becomes zero."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.where(lengths > 1e-6, vectors / np.maximum(lengths, 1e-6), 0.0).astype(np.float32)


def standardised(columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(I, M) in standard deviations from the mean over `rows`, float32; a constant column is 0, NaN stays NaN."""
    known = columns[rows]
    some = ~np.isnan(known).all(axis=0)
    mean, spread = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    mean[some], spread[some] = np.nanmean(known[:, some], axis=0), np.nanstd(known[:, some], axis=0)
    return np.asarray((columns - mean) / np.where(spread > 1e-12, spread, 1.0), dtype=np.float32)


def pair_kernels(features: ItemFeatures, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Every kernel between items `rows` (G,) and `columns` (A,): (F, G, A) float32, in the order of `names`."""
    stack = [one[rows] @ one[columns].T for one in features.dense.values()]
    stack += [(one[rows] @ one[columns].T).toarray() for one in features.sparse.values()]
    for values in features.near.values():
        distance = (values[rows][:, None] - values[columns]) / WIDTH
        stack.append(np.nan_to_num(np.exp(-0.5 * distance**2)))
    stack += [np.outer(one[rows], one[columns]) for one in features.slopes.values()]
    stack.append(rows[:, None] == columns)
    return np.stack(stack).astype(np.float32)


def kernel_table(features: ItemFeatures, weights: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> Tensor:
    """K = sum_f weights_f K_f of behaviours `rows` (G,) x ads `columns` (A,), (G, A) float32: a block of live ads."""
    table = torch.empty(len(rows), len(columns))
    for start in range(0, len(rows), ROWS_AT_ONCE):
        stack = pair_kernels(features, rows[start : start + ROWS_AT_ONCE], columns)
        table[start : start + ROWS_AT_ONCE] = torch.as_tensor(np.tensordot(weights.astype(np.float32), stack, 1))
    return table


class KernelStack:
    """Every kernel of every pair of items at once, looked up by lists of items: for catalogues of some thousands.

    I^2 F numbers of float32, pair by pair, so that a look-up reads F neighbours.
    """

    def __init__(self, features: ItemFeatures) -> None:
        items = len(next(iter(features.dense.values())))
        every = np.arange(items)
        self.names, self.items = features.names, items
        self.pairs = torch.empty(items * items, len(self.names))
        for start in range(0, items, ROWS_AT_ONCE):
            rows = every[start : start + ROWS_AT_ONCE]
            stack = torch.as_tensor(pair_kernels(features, rows, every))  # (F, rows, I)
            self.pairs[start * items : (start + len(rows)) * items] = stack.reshape(len(self.names), -1).T

    def __call__(self, rows: Tensor, columns: Tensor) -> Tensor:
        """Kernels of items rows (B, T) and columns (B, C): (B, T, C, F). Item -1, which pads, gives any numbers."""
        place = rows.clamp(min=0)[:, :, None] * self.items + columns.clamp(min=0)[:, None, :]  # (B, T, C)
        return self.pairs[place.reshape(-1)].reshape(*place.shape, len(self.names))

    def table(self, weights: np.ndarray) -> Tensor:
        """sum_f weights_f K_f of every pair, (I, I)."""
        return (self.pairs @ torch.as_tensor(weights, dtype=torch.float32)).reshape(self.items, self.items)
