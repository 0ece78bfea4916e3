"""What a trained ranker reads of ads, the same in training and on every later day: texts, keywords, named columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]

from llmrec_spark.errors import ModelError
from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.pair_kernels import FARTHEST, ItemFeatures, field_centres, text_vectors
from llmrec_spark.model.prior_features import PriorFeatures, fit_prior_features

MIN_SPREAD = 1e-9
SAME_PEOPLE = "acted on by the same people"  # the kernel of neighbours


class Names(NamedTuple):
    """What is read of ads beside their texts."""

    columns: tuple[str, ...] = ()  # numbers
    groups: tuple[str, ...] = ()  # words
    neighbours: str | None = None  # and how it is found which ads the same people acted on, if at all


@dataclass(frozen=True)
class AdReader:
    """N text fields, D width, M columns and G groups of ads."""

    fields: tuple[str, ...]
    centres: np.ndarray  # (N, D) float32: mean vector of each field, subtracted before vectors are compared
    columns: Mapping[str, tuple[float, float]]  # mean and standard deviation of each
    groups: tuple[str, ...]  # columns of words
    projection: PriorFeatures
    neighbours: str | None = None  # likewise, of ads that are alike by it

    def features(self, catalogue: Catalogue, columns: np.ndarray) -> ItemFeatures:
        """What the kernels compare, of every item; columns (I, M + G) as catalogue.ad_numbers has them."""
        dense = text_vectors(catalogue, self.fields, self.centres)
        near = {
            name: ((columns[:, number] - mean) / spread).astype(np.float32)
            for number, (name, (mean, spread)) in enumerate(self.columns.items())
        }
        slopes = {name: np.nan_to_num(np.clip(one, -FARTHEST, FARTHEST)) for name, one in near.items()}
        codes = columns[:, len(self.columns) :].T
        same = {f"same {name}": one_hot(one) for name, one in zip(self.groups, codes, strict=True)}
        sparse = {"keywords": catalogue.keywords} | same
        if self.neighbours:
            if catalogue.neighbours is None:
                raise ModelError("ranker: reads which ads the same people acted on; expected them in the catalogue.")
            sparse[SAME_PEOPLE] = catalogue.neighbours
        return ItemFeatures(dense, sparse, near, slopes)

    def prior_features(self, features: ItemFeatures) -> np.ndarray:
        """(I, P) what is known of an item before anyone has met it; nothing sparse, whose columns differ by day."""
        return self.projection.of(features._replace(sparse={}))


def fit_ad_reader(
    catalogue: Catalogue, fields: tuple[str, ...], columns: np.ndarray, *, names: Names, rank: int
) -> AdReader:
    """The reader of these ads: centres and spreads over all items, the projection of their texts.

    columns (I, M + G) as catalogue.ad_numbers has them, NaN for queries too; names of both kinds
    """
    centres = field_centres(catalogue, np.arange(len(catalogue.fields)))
    known = {name: one[~np.isnan(one)] for name, one in zip(names.columns, columns.T, strict=False)}
    spreads = {
        name: (float(one.mean()), max(float(one.std()), MIN_SPREAD)) if len(one) else (0.0, 1.0)
        for name, one in known.items()
    }
    nothing = PriorFeatures(np.zeros((0, 0), dtype=np.float32))
    reader = AdReader(fields, centres, spreads, names.groups, nothing, names.neighbours)
    features = reader.features(catalogue, columns)
    return replace(reader, projection=fit_prior_features(features._replace(sparse={}), rank=rank))


def one_hot(codes: np.ndarray) -> csr_array:
    """(I, values) of codes (I,), NaN for none: ads of one value have cosine 1."""
    known = np.flatnonzero(~np.isnan(codes))
    values, place = np.unique(codes[known], return_inverse=True)
    ones = np.ones(len(known), dtype=np.float32)
    return csr_array((ones, (known, place)), shape=(len(codes), max(len(values), 1)))
