"""Impressions of RankLens as padded arrays: each list beside what is known of its user without it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from llmrec_spark.model.taste_gp import PaddedHistories, PaddedLists


def places(owner: np.ndarray) -> tuple[np.ndarray, int]:
    """Of rows that stand owner by owner (ascending codes): the place of each within its owner, and the longest."""
    sizes = np.bincount(owner) if len(owner) else np.zeros(0, dtype=int)
    place = np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner] if len(owner) else owner
    return place, int(sizes.max(initial=0))


def padded(owner: np.ndarray, values: np.ndarray, owners: int, fill: float | int | bool) -> torch.Tensor:
    """values (n,) of owners (n,), ascending -> (owners, longest)."""
    place, longest = places(owner)
    table = np.full((owners, longest), fill, dtype=values.dtype)
    table[owner, place] = values
    return torch.as_tensor(table)


def padded_histories(owner: np.ndarray, rows: pd.DataFrame, owners: int, offset: np.ndarray) -> PaddedHistories:
    """rows (item, clicked) of owners, ascending; offset (n,)."""
    return PaddedHistories(
        padded(owner, rows["item"].to_numpy().astype(np.int64), owners, -1),
        padded(owner, rows["clicked"].to_numpy().astype(np.float32), owners, 0.0),
        padded(owner, offset.astype(np.float32), owners, 0.0),
    )


def padded_lists(
    owner: np.ndarray, item: np.ndarray, clicked: np.ndarray, owners: int, offset: np.ndarray
) -> PaddedLists:
    """As above."""
    return PaddedLists(
        padded(owner, item.astype(np.int64), owners, -1),
        padded(owner, clicked.astype(bool), owners, False),
        padded(owner, offset.astype(np.float32), owners, 0.0),
    )


def other_lists(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """For every impression of every other list of the same user: (code of the list, place of the impression in rows).

    rows stand list by list, a user's lists together, with column `code` 0.. of lists; by code, then place.
    """
    lists = rows[["user", "code"]].drop_duplicates()
    places_ = pd.DataFrame(
        {"user": rows["user"].to_numpy(), "code": rows["code"].to_numpy(), "row": np.arange(len(rows))}
    )
    pairs = lists.merge(places_, on="user", suffixes=("", "_other"))
    pairs = pairs[pairs["code"] != pairs["code_other"]].sort_values(["code", "row"])
    return pairs["code"].to_numpy(), pairs["row"].to_numpy()
