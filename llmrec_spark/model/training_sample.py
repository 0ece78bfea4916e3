"""The lists that a ranker learns from, out of the files of a training set: as arrays, and never more than fit.

Files are read in Arrow batches. Kept are, of each split, the lists with the smallest hashes of user, day and list; what
is counted of an ad is counted over every example that trains. So memory grows with the lists kept and with the ads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from llmrec_spark.model.behaviour_encoder import flatten
from llmrec_spark.model.example_batches import example_batches

LIST = ["run_date", "user_id", "list_id"]
HISTORY = ["run_date", "user_id", "history_id"]
EXAMPLE_COLUMNS = (
    *LIST,
    "history_id",
    "ad_id",
    "split",
    "position",
    "clicked",
    "converted",
    "ad_shown",
    "ad_clicks",
    "mean_rate",
    "log_sampling_rate",
)
HISTORY_COLUMNS = (
    *HISTORY,
    "ad_ids",
    "query_hashes",
    "event_types",
    "event_ts",
    "positions",
    "skipped_ad_ids",
    "skipped_ts",
    "skipped_positions",
)
TIMES = ("event_ts", "skipped_ts")
DAY = 86_400e6  # microseconds
LONGEST = 256  # rows of a list that are kept: without request_id a list is all that a user was shown on a day


class Examples(NamedTuple):
    """n shown ads, list after list; a list has one history. Item -1 (an ad without a record) must not be among them."""

    list: np.ndarray  # (n,) int, codes from 0, ascending
    user: np.ndarray  # (n,) int, codes from 0
    item: np.ndarray  # (n,) int of the catalogue
    position: np.ndarray  # (n,) float from 1, NaN where unknown
    clicked: np.ndarray  # (n,) bool
    converted: np.ndarray  # (n,) float: 1, 0, NaN while nobody can say
    shown: np.ndarray  # (n,) of the ad, before
    clicks: np.ndarray  # (n,) of the ad, before
    trains: np.ndarray  # (n,) bool: learned from
    calibrates: np.ndarray  # (n,) bool: held back, for the probabilities
    log_draw: np.ndarray  # (n,) ln of the chance that a draw gives the ad; 0 where the log says what was shown

    @property
    def were_drawn(self) -> bool:
        """Whether ads were drawn beside what users acted on, of a log that does not say what it showed."""
        return bool((self.log_draw < 0).any())


class ShownBefore(NamedTuple):
    """What each of L lists' users was shown before, flat: list l owns rows offsets[l] to offsets[l + 1]."""

    item: np.ndarray  # (m,) int, -1 without a record
    clicked: np.ndarray  # (m,) bool
    position: np.ndarray  # (m,) float from 1, NaN where unknown
    offsets: np.ndarray  # (L + 1,)
    age_days: np.ndarray  # (m,) float when the day of the list began; 0 of what came later
    texts: np.ndarray | None = None  # (L, 2, D) float32 of clicks and of skips as texts, 0 without; None: not asked


class Totals(NamedTuple):
    """Sums of the examples that train, (I,) each; where ads were drawn, shown and clicks as last known of each."""

    shown: np.ndarray
    clicks: np.ndarray
    settled: np.ndarray  # clicks of which it is known whether they led to a conversion
    conversions: np.ndarray


class Sample(NamedTuple):
    """What training holds in memory."""

    rows: pd.DataFrame  # (n,) EXAMPLE_COLUMNS, list after list
    histories: pd.DataFrame  # (L,) a row per list: HISTORY_COLUMNS, TIMES in microseconds; empty if nothing is known
    examples: Examples  # of `rows`
    before: ShownBefore  # of `histories`
    totals: Totals
    unknown: int  # examples left out because their ad has no record
    cut: int = 0  # left out of lists of more than LONGEST


def read_sample(
    example_files: Iterable[str],
    history_files: Iterable[str],
    items: pd.Index,
    *,
    size: int,
    answers: Sequence[str],
    max_lists: int,
    positions: bool,
) -> Sample:
    """At most `max_lists` lists of each split, of LONGEST rows at most, with what was known of their users.

    items      ad_id of each ad of a catalogue of `size` items, in its order
    answers    the types of events that answer an impression
    positions  whether positions are read; otherwise all are unknown
    """
    rows, totals, unknown, cut = _read_lists(example_files, items, size=size, max_lists=max_lists)
    number = rows.groupby(LIST, sort=False, dropna=False).ngroup().to_numpy()
    of_lists = rows.loc[~rows.duplicated(LIST), HISTORY]
    histories = of_lists.merge(_read_histories(history_files, of_lists), on=HISTORY, how="left")
    for name in HISTORY_COLUMNS[len(HISTORY) :]:
        histories[name] = [() if one is None or one is np.nan else one for one in histories[name]]
    place = rows["position"].to_numpy(dtype=np.float64) if positions else np.full(len(rows), np.nan)
    examples = Examples(
        list=number,
        user=pd.factorize(rows["user_id"])[0],
        item=items.get_indexer(rows["ad_id"]),
        position=place,
        clicked=rows["clicked"].to_numpy(dtype=bool),
        converted=rows["converted"].to_numpy(dtype=np.float64),
        shown=rows["ad_shown"].to_numpy(dtype=np.float64),
        clicks=rows["ad_clicks"].to_numpy(dtype=np.float64),
        trains=(rows["split"] == "train").to_numpy(),
        calibrates=(rows["split"] == "validation").to_numpy(),
        log_draw=rows["log_sampling_rate"].fillna(0.0).to_numpy(dtype=np.float64),
    )
    before = shown_before(histories, items, answers)
    if not positions:
        before = before._replace(position=np.full(len(before.position), np.nan))
    return Sample(rows, histories, examples, before, totals, unknown, cut)


def _read_lists(
    files: Iterable[str], items: pd.Index, *, size: int, max_lists: int
) -> tuple[pd.DataFrame, Totals, int, int]:
    kept = pd.DataFrame(columns=[*EXAMPLE_COLUMNS, "hash"]).astype({"run_date": "M8[ns]"})
    parts: list[pd.DataFrame] = []
    sums, unknown, cut = np.zeros((len(Totals._fields), size)), 0, 0
    for batch in example_batches(files, columns=EXAMPLE_COLUMNS):
        rows = _frame(batch)
        item = items.get_indexer(rows["ad_id"])
        unknown += int((item < 0).sum())
        rows, item = rows[item >= 0], item[item >= 0]
        sums += _sums(rows, item, size)
        whole = rows.assign(hash=_list_hash(rows))
        parts.append(without_longest(whole))
        cut += len(whole) - len(parts[-1])
        if sum(map(len, parts)) > len(kept) + 50 * max_lists:
            kept, parts = _smallest([kept, *parts], max_lists), []
    kept = _smallest([kept, *parts], max_lists)
    kept = kept.drop(columns="hash").reset_index(drop=True)
    totals = Totals(*sums)
    if kept["log_sampling_rate"].notna().any():  # how often an ad was drawn says nothing of it
        totals = totals._replace(**_last_known(kept, items, size))
    return kept, totals, unknown, cut


def _last_known(rows: pd.DataFrame, items: pd.Index, size: int) -> dict[str, np.ndarray]:
    """shown and clicks, (I,) each, that the newest example of an ad that trains has of the days before it."""
    newest = rows[rows["split"] == "train"].sort_values("run_date", kind="stable").drop_duplicates("ad_id", keep="last")
    item = items.get_indexer(newest["ad_id"])
    return {
        name: np.bincount(item, newest[column].to_numpy(dtype=np.float64), size)
        for name, column in (("shown", "ad_shown"), ("clicks", "ad_clicks"))
    }


def _frame(batch: pa.RecordBatch) -> pd.DataFrame:
    frame: pd.DataFrame = batch.to_pandas(date_as_object=False)
    return frame.assign(converted=frame["converted"].astype("float64"), run_date=frame["run_date"].astype("M8[ns]"))


def _sums(rows: pd.DataFrame, item: np.ndarray, size: int) -> np.ndarray:
    trains = (rows["split"] == "train").to_numpy(dtype=np.float64)
    clicks = trains * rows["clicked"].to_numpy(dtype=np.float64)
    converted = rows["converted"].to_numpy(dtype=np.float64)
    settled = clicks * ~np.isnan(converted)
    return np.stack(
        [np.bincount(item, one, size) for one in (trains, clicks, settled, settled * np.nan_to_num(converted))]
    )


def _list_hash(rows: pd.DataFrame) -> np.ndarray:
    key = rows["user_id"] + "\x1f" + rows["list_id"] + "\x1f" + rows["run_date"].astype(str)
    return np.asarray(pd.util.hash_pandas_object(key, index=False))


def without_longest(rows: pd.DataFrame) -> pd.DataFrame:
    """At most LONGEST rows of each list, which is whole here: any of them, by a hash of list and ad.

    An act and the ads drawn beside it, as many as were asked for, are left together.
    """
    if not (rows["hash"].value_counts() > LONGEST).any() or rows["log_sampling_rate"].notna().any():
        return rows
    draw = pd.util.hash_pandas_object(rows["ad_id"] + "\x1f" + rows["hash"].astype(str), index=False)
    order = rows.assign(draw=draw).sort_values(["hash", "draw", "position"], kind="stable")
    return rows.loc[order.index[order.groupby("hash").cumcount() < LONGEST]].sort_index()


def _smallest(parts: list[pd.DataFrame], max_lists: int) -> pd.DataFrame:
    """The rows of the `max_lists` lists of each split with the smallest hashes, in order of these."""
    rows = pd.concat([one for one in parts if len(one)] or parts[:1], ignore_index=True)
    lists = rows.drop_duplicates("hash").sort_values("hash")
    chosen = lists.groupby("split").head(max_lists)["hash"]
    return rows[rows["hash"].isin(chosen)].sort_values(["hash", "position", "ad_id"], ignore_index=True)


def _read_histories(files: Iterable[str], wanted: pd.DataFrame) -> pd.DataFrame:
    found = [pd.DataFrame(columns=list(HISTORY_COLUMNS)).astype({"run_date": "M8[ns]"})]
    keys = wanted.drop_duplicates()
    for batch in example_batches(files, columns=HISTORY_COLUMNS, together=()):
        for name in TIMES:
            happened = batch.column(name).cast(pa.list_(pa.timestamp("us", "UTC"))).cast(pa.list_(pa.int64()))
            batch = batch.set_column(batch.schema.get_field_index(name), name, happened)
        rows = batch.to_pandas(date_as_object=False)
        found.append(rows.assign(run_date=rows["run_date"].astype("M8[ns]")).merge(keys, on=HISTORY, how="inner"))
    return pd.concat([one for one in found if len(one)] or found, ignore_index=True)


def with_text(before: ShownBefore, has_text: np.ndarray) -> ShownBefore:
    """Only the items (I,) of `has_text` are known: on a day no other ad behaves either."""
    known = (before.item >= 0) & np.append(has_text, False)[before.item]
    return before._replace(item=np.where(known, before.item, -1))


def shown_before(histories: pd.DataFrame, items: pd.Index, answers: Sequence[str]) -> ShownBefore:
    """As sequences.shown_before, of histories (L,): first what was clicked, then what was skipped."""
    ads, lengths = flatten(histories["ad_ids"])
    kinds, positions = flatten(histories["event_types"])[0], flatten(histories["positions"])[0]
    owner = np.repeat(np.arange(len(histories)), lengths)
    clicked = np.isin(kinds.astype(str), list(answers)) & ~pd.isna(ads)
    skipped, lengths = flatten(histories["skipped_ad_ids"])
    skip_owner = np.repeat(np.arange(len(histories)), lengths)
    owners = np.concatenate([owner[clicked], skip_owner])
    order = np.argsort(owners, kind="stable")
    place = np.concatenate([positions[clicked], flatten(histories["skipped_positions"])[0]])
    happened = np.concatenate([flatten(histories["event_ts"])[0][clicked], flatten(histories["skipped_ts"])[0]])
    began = histories["run_date"].to_numpy(dtype="M8[us]").astype(np.int64)[owners]
    return ShownBefore(
        item=items.get_indexer(np.concatenate([ads[clicked], skipped])[order]),
        clicked=np.repeat([True, False], [int(clicked.sum()), len(skipped)])[order],
        position=pd.to_numeric(pd.Series(place), errors="coerce").to_numpy(dtype=np.float64)[order],
        offsets=np.concatenate([[0], np.cumsum(np.bincount(owners, minlength=len(histories)))]),
        age_days=np.maximum((began - happened.astype(np.int64)) / DAY, 0.0)[order],
    )
