"""Which of RankLens's lists are scored, and what each of them may be scored from: three protocols.

production  each user's last list, from everything before the last day of everyone
warm        the same lists, from the lists of other people (five folds of users) and the user's own earlier lists
cold        the films of a group nobody was ever shown: its impressions are gone from training and histories

The lists of a user are ordered by their time, and at one time as the file has them; the last one is judged where the
user has an earlier one and it holds clicked and unclicked films. Films without a record stay in the lists of
production and warm, where no scorer can order them; cold ranks only films with a record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow.parquet as pq

FOLDS = 5
COLD_GROUPS, GROUPS_JUDGED = 4, (0, 1)  # of the films


class Trial(NamedTuple):
    """One group of scored users: what may be known, and what is asked. Impressions as `read_impressions` gives them."""

    training: pd.DataFrame  # impressions every statistic and weight may come from; of other people but in production
    histories: pd.DataFrame  # earlier impressions, clicked and skipped, of the users of `candidates`
    candidates: pd.DataFrame  # user, list, film, item: what is to be scored, list after list, without the answers
    clicked: np.ndarray  # (number of candidates,) bool, the answers


def read_impressions(folder: Path, films: pd.Index) -> pd.DataFrame:
    """One row per film of a list, by user, time and position.

    user, list (from 0, in this order), from_last (0 in the user's last list), position (from 1), film, item (its place
    in `films`, -1 without a record), clicked, fold and inner_fold of the user, cold_group of the film

    A film that stands in a list twice counts once, at its first position.
    """
    rankings = pq.read_table(folder / "rankings.parquet", columns=["id", "timestamp", "user", "items"])
    clicks = pq.read_table(folder / "interactions.parquet", columns=["ranking", "item"]).to_pandas()
    items = rankings["items"].combine_chunks()
    sizes = np.diff(items.offsets.to_numpy())
    lists = rankings.select(["id", "timestamp", "user"]).to_pandas()
    lists["timestamp"] = lists["timestamp"].astype("int64")
    order = lists.sort_values(["user", "timestamp"], kind="stable").index.to_numpy()
    lists["list"] = np.argsort(order)  # the place of each in that order
    lists["from_last"] = lists.groupby("user")["list"].rank(ascending=False).astype(int) - 1
    rows = lists.loc[np.repeat(lists.index.to_numpy(), sizes), ["id", "user", "list", "from_last"]]
    rows["film"] = items.flatten().field("id").to_numpy(zero_copy_only=False).astype(str)
    rows["position"] = np.arange(len(rows)) - np.repeat(np.cumsum(sizes) - sizes, sizes) + 1
    clicked = pd.MultiIndex.from_arrays([clicks["ranking"], clicks["item"].astype(str)])
    rows["clicked"] = pd.MultiIndex.from_frame(rows[["id", "film"]]).isin(clicked)
    rows["item"] = films.get_indexer(rows["film"])
    rows["fold"] = by_value(rows["user"], lambda user: user_fold(user, FOLDS))
    rows["inner_fold"] = by_value(rows["user"], lambda user: user_fold(user, FOLDS**2))
    rows["cold_group"] = by_value(rows["film"], lambda film: md5_number(f"cold:{film}") % COLD_GROUPS)
    rows = rows.sort_values(["list", "position"], ignore_index=True).drop(columns="id")
    return rows.drop_duplicates(["list", "film"], ignore_index=True)


def by_value(keys: pd.Series, number: Callable[[str], int]) -> np.ndarray:
    """number(key) of every row, worked out once per distinct key."""
    codes, distinct = pd.factorize(keys)
    return np.array([number(key) for key in distinct], dtype=np.int64)[codes]


def md5_number(text: str) -> int:
    """The md5 of a text as a whole number."""
    return int(hashlib.md5(text.encode()).hexdigest(), 16)


def user_fold(user: str, divisor: int) -> int:
    """The fold of a user, with divisor 5; with 25 the inner group, for what is learned from other learned numbers."""
    return md5_number(user) // divisor % FOLDS


def production(impressions: pd.DataFrame) -> Iterator[Trial]:
    """One trial: the last lists of everyone, from all lists before them."""
    earlier = impressions[impressions["from_last"] > 0]
    yield trial(earlier, earlier, judged_rows(impressions))


def warm(impressions: pd.DataFrame) -> Iterator[Trial]:
    """A trial per fold of users: training is every list of the other folds, a history the user's own earlier lists."""
    lists, earlier = judged_rows(impressions), impressions[impressions["from_last"] > 0]
    for fold in range(FOLDS):
        training = impressions[impressions["fold"] != fold]
        yield trial(training, earlier, lists[lists["fold"] == fold])


def cold(impressions: pd.DataFrame) -> Iterator[Trial]:
    """A trial per judged group of films and fold of users: as `warm`, but only films of the group are ranked.

    Training and histories hold no impression of the group: nothing it ranks was ever shown to anyone.
    """
    has_record = impressions["item"] >= 0
    for group in GROUPS_JUDGED:
        is_new = impressions["cold_group"] == group
        lists, met = judged_rows(impressions, is_new & has_record), impressions[~is_new]
        earlier = met[met["from_last"] > 0]
        for fold in range(FOLDS):
            yield trial(met[met["fold"] != fold], earlier, lists[lists["fold"] == fold])


PROTOCOLS = {"production": production, "warm": warm, "cold": cold}


def judged_rows(impressions: pd.DataFrame, ranked: pd.Series | bool = True) -> pd.DataFrame:
    """What is ranked (rows where `ranked`) of last lists, of users with an earlier list, if its labels are mixed."""
    has_earlier = impressions.loc[impressions["from_last"] > 0, "user"].unique()
    last = impressions[(impressions["from_last"] == 0) & impressions["user"].isin(has_earlier) & ranked]
    share = last.groupby("list")["clicked"].transform("mean")
    return last[(share > 0) & (share < 1)]


def trial(training: pd.DataFrame, earlier: pd.DataFrame, lists: pd.DataFrame) -> Trial:
    """Training as it is, the earlier impressions of users whose list is judged, and the lists without the answers."""
    histories = earlier[earlier["user"].isin(lists["user"].unique())]
    asked = lists[["user", "list", "film", "item"]].reset_index(drop=True)
    return Trial(training, histories, asked, lists["clicked"].to_numpy())


def list_sizes(candidates: pd.DataFrame) -> np.ndarray:
    """(L,) how many candidates each list has, in their order."""
    return candidates.groupby("list", sort=False).size().to_numpy()


def list_users(candidates: pd.DataFrame) -> np.ndarray:
    """(L,) the user of each list, in their order."""
    return candidates.drop_duplicates("list")["user"].to_numpy()
