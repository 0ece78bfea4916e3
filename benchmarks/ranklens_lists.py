"""Impressions of RankLens as padded arrays: each list beside what is known of its user without it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from llmrec_spark.model.taste_gp import PaddedHistories, PaddedLists, padded


def padded_histories(owner: np.ndarray, rows: pd.DataFrame, owners: int, offset: np.ndarray) -> PaddedHistories:
    """rows (item, clicked) of owners, ascending; offset (n,)."""
    clicked = rows["clicked"].to_numpy().astype(np.float32)
    values = (rows["item"].to_numpy().astype(np.int64), clicked, offset.astype(np.float32))
    return PaddedHistories(*padded(owner, owners, values, (-1, 0.0, 0.0)))


def padded_lists(
    owner: np.ndarray, item: np.ndarray, clicked: np.ndarray, owners: int, offset: np.ndarray
) -> PaddedLists:
    """As above."""
    values = (item.astype(np.int64), clicked.astype(bool), offset.astype(np.float32))
    return PaddedLists(*padded(owner, owners, values, (-1, False, 0.0)))


def other_lists(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For every impression of every other list of the same user: (code of the list, place of the impression in rows).

    rows stand list by list, a user's lists together, with column `code` 0.. of lists; by code, then place.
    """
    lists = rows[["user", "code"]].drop_duplicates()
    rows_of = pd.DataFrame(
        {"user": rows["user"].to_numpy(), "code": rows["code"].to_numpy(), "row": np.arange(len(rows))}
    )
    pairs = lists.merge(rows_of, on="user", suffixes=("", "_other"))
    pairs = pairs[pairs["code"] != pairs["code_other"]].sort_values(["code", "row"])
    return pairs["code"].to_numpy(), pairs["row"].to_numpy()
