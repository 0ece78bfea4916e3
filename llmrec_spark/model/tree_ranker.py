"""LambdaMART on the features of a user and an ad; kept as LightGBM's own text, its parts by feature are TreeSHAP's."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

TREES = 250
SETTINGS = {
    "objective": "lambdarank",
    "num_leaves": 6,
    "learning_rate": 0.04,
    "min_data_in_leaf": 150,
    "feature_fraction": 0.25,
    "lambda_l2": 20.0,
    "lambdarank_truncation_level": 24,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


class TreeRanker(NamedTuple):
    """A booster as text, so that it can be stored and read without running any code of it."""

    text: str  # empty: nothing to learn from, every score is 0

    def score(self, features: np.ndarray, *, threads: int = 1) -> np.ndarray:
        """features (n, P) -> (n,)."""
        if not self.text:
            return np.zeros(len(features))
        return np.asarray(booster(self.text).predict(features, num_threads=threads))

    def terms(self, features: np.ndarray, *, threads: int = 1) -> np.ndarray:
        """TreeSHAP (Lundberg et al., Nature Machine Intelligence 2, 2020): (n, P + 1), the last one is what all share.

        They add up to the score.
        """
        if not self.text:
            return np.zeros((len(features), features.shape[1] + 1))
        return np.asarray(booster(self.text).predict(features, pred_contrib=True, num_threads=threads))


@lru_cache(maxsize=2)
def booster(text: str) -> Any:
    """LightGBM's own object."""
    import lightgbm

    return lightgbm.Booster(model_str=text)


def fit_tree_ranker(
    features: np.ndarray,
    clicked: np.ndarray,
    sizes: np.ndarray,
    *,
    names: tuple[str, ...],
    seed: int,
    offset: np.ndarray | None = None,
    trees: int = TREES,
    threads: int = 1,
) -> TreeRanker:
    """features (n, P) and clicked (n,) of lists that stand one after the other, sizes (L,) of sum n.

    offset (n,) as fit_linear_ranker has it.
    """
    if not len(features):
        return TreeRanker("")
    import lightgbm

    columns = [f"f{place}" for place in range(len(names))]  # LightGBM allows no spaces
    data = lightgbm.Dataset(
        features, clicked.astype(int), group=sizes, init_score=offset, feature_name=columns, free_raw_data=False
    )
    settings = SETTINGS | {"seed": seed, "num_threads": threads}
    return TreeRanker(lightgbm.train(settings, data, num_boost_round=trees).model_to_string())


def ensemble(scores: list[np.ndarray], sizes: np.ndarray) -> np.ndarray:
    """(n,) the mean of several scores (n,), each standardised inside its list; one that ties a list adds 0 there."""
    lists = np.repeat(np.arange(len(sizes)), sizes)
    total = np.zeros(len(lists))
    for score in scores:
        mean = np.bincount(lists, score, len(sizes)) / np.maximum(sizes, 1)
        centred = score - mean[lists]
        spread = np.sqrt(np.bincount(lists, centred**2, len(sizes)) / np.maximum(sizes, 1))
        total += centred / np.where(spread > 1e-12, spread, 1.0)[lists]
    return total / max(len(scores), 1)
