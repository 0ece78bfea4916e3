"""The form of a scorer of RankLens: what it is given and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from llmrec_spark.model.ranker import AdFigures


class Statistics(NamedTuple):
    """What the training impressions say of each of the A films."""

    shown: np.ndarray  # (A,)
    clicks: np.ndarray  # (A,)
    figures: AdFigures  # rate, background (A,), sigma


Score = Callable[[pd.DataFrame, Statistics, pd.DataFrame, pd.DataFrame], np.ndarray]


class Scorer(NamedTuple):
    """A scorer and those it is compared with: the steps it should be better than."""

    score: Score
    against: tuple[str, ...] = ()


def of_films(values: np.ndarray, candidates: pd.DataFrame) -> np.ndarray:
    """(A,) -> (n,) float64: the value of each candidate, NaN without a record."""
    return np.append(values.astype(np.float64), np.nan)[candidates["item"]]  # item -1 takes the last
