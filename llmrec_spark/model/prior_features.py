"""What is known of an item before anyone has met it, as a few numbers: text and set vectors made narrow, and columns.

The texts' vectors and the sets, side by side, are projected on their leading right singular vectors, found by a
randomised range finder (Halko, Martinsson and Tropp, SIAM Review 53, 2011, algorithm 4.4).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from llmrec_spark.model.pair_kernels import ItemFeatures

RANK = 150
OVERSAMPLED = 20
POWERS = 4


class PriorFeatures(NamedTuple):
    """A projection learned on some items and applied to any others that have the same blocks."""

    components: np.ndarray  # (W, P) float32, W the widths of all blocks together

    def of(self, features: ItemFeatures) -> np.ndarray:
        """(I, P + 2 M) float64: the projected blocks, and the M columns and their squares (0 where unknown)."""
        projected = times(features, self.components)
        columns = [np.nan_to_num(np.clip(one, -3.0, 3.0)) for one in features.near.values()]
        return np.column_stack([projected, *columns, *(one**2 - 1.0 for one in columns)]).astype(np.float64)


def fit_prior_features(features: ItemFeatures, *, rank: int = RANK, seed: int = 0) -> PriorFeatures:
    """The leading `rank` right singular vectors of the blocks of the given items."""
    width = sum(block.shape[1] for block in blocks(features))
    items = blocks(features)[0].shape[0]
    kept = min(rank, width, items)
    probe = np.random.default_rng(seed).normal(size=(width, min(kept + OVERSAMPLED, width, items)))
    for _ in range(POWERS):
        reached = np.linalg.qr(times(features, probe.astype(np.float32)))[0]
        probe = np.linalg.qr(transposed_times(features, reached))[0]
    left = times(features, probe.astype(np.float32))  # (I, kept + oversampled)
    _, _, turned = np.linalg.svd(left, full_matrices=False)
    return PriorFeatures((probe @ turned[:kept].T).astype(np.float32))


def blocks(features: ItemFeatures) -> list[Any]:
    """The dense blocks of single fields and the sparse ones, (I, width) each; not the mean of the fields."""
    return [*list(features.dense.values())[:-1], *features.sparse.values()]


def times(features: ItemFeatures, right: np.ndarray) -> np.ndarray:
    """Blocks side by side times right (W, P): (I, P)."""
    start, total = 0, 0.0
    for block in blocks(features):
        total = total + block @ right[start : start + block.shape[1]]
        start += block.shape[1]
    return np.asarray(total)


def transposed_times(features: ItemFeatures, left: np.ndarray) -> np.ndarray:
    """The transpose of the blocks side by side times left (I, P): (W, P)."""
    return np.concatenate([block.T @ left for block in blocks(features)])
