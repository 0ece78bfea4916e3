"""What a trained ranker reads of ads, the same in training and on every later day: texts, keywords, named columns."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from llmrec_spark.model.catalogue import Catalogue
from llmrec_spark.model.pair_kernels import FARTHEST, ItemFeatures, field_centres, text_vectors
from llmrec_spark.model.prior_features import PriorFeatures, fit_prior_features

MIN_SPREAD = 1e-9


@dataclass(frozen=True)
class AdReader:
    """N text fields, D width, M columns of ads."""

    fields: tuple[str, ...]
    centres: np.ndarray  # (N, D) float32: mean vector of each field, subtracted before vectors are compared
    columns: Mapping[str, tuple[float, float]]  # mean and standard deviation of each
    projection: PriorFeatures

    def features(self, catalogue: Catalogue, columns: np.ndarray) -> ItemFeatures:
        """What the kernels compare, of every item of a catalogue; columns (I, M) as they stand, NaN where unknown."""
        dense = text_vectors(catalogue, self.fields, self.centres)
        near = {
            name: ((columns[:, number] - mean) / spread).astype(np.float32)
            for number, (name, (mean, spread)) in enumerate(self.columns.items())
        }
        slopes = {name: np.nan_to_num(np.clip(one, -FARTHEST, FARTHEST)) for name, one in near.items()}
        return ItemFeatures(dense, {"keywords": catalogue.keywords}, near, slopes)

    def prior_features(self, features: ItemFeatures) -> np.ndarray:
        """(I, P) what is known of an item before anyone has met it; keywords, whose columns differ by day, left out."""
        return self.projection.of(features._replace(sparse={}))


def fit_ad_reader(
    catalogue: Catalogue, fields: tuple[str, ...], columns: Mapping[str, np.ndarray], *, rank: int
) -> AdReader:
    """The reader of these ads: centres and spreads over all items, the projection of their texts.

    columns (I,) by name, NaN where unknown.
    """
    centres = field_centres(catalogue, np.arange(len(catalogue.fields)))
    known = {name: one[~np.isnan(one)] for name, one in columns.items()}
    spreads = {
        name: (float(one.mean()), max(float(one.std()), MIN_SPREAD)) if len(one) else (0.0, 1.0)
        for name, one in known.items()
    }
    reader = AdReader(fields, centres, spreads, PriorFeatures(np.zeros((0, 0), dtype=np.float32)))
    features = reader.features(catalogue, stacked(columns, len(catalogue.fields)))
    return replace(reader, projection=fit_prior_features(features._replace(sparse={}), rank=rank))


def stacked(columns: Mapping[str, np.ndarray], items: int) -> np.ndarray:
    """Columns (I,) side by side, (I, M) float64."""
    return np.column_stack([np.empty((items, 0)), *columns.values()]) if columns else np.empty((items, 0))
