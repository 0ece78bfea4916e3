"""Users and ads of a run through the trained ranker: tastes from histories, and scores of blocks of live ads.

What it reads of a run beside the catalogue is what `catalogue.save_figures` wrote.
"""

from __future__ import annotations

from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from llmrec_spark.model.behaviour_encoder import flatten
from llmrec_spark.model.catalogue import COLUMNS, COUNTS, open_catalogue
from llmrec_spark.model.checkpoint import RANKER
from llmrec_spark.model.network_batches import AdTable
from llmrec_spark.model.network_lists import ad_table, read_texts
from llmrec_spark.model.pair_kernels import ItemFeatures, kernel_table, pair_kernels
from llmrec_spark.model.taste_gp import (
    PaddedHistories,
    behaviour_weights,
    fitted_levels,
    padded,
    residuals,
    taste_block,
)
from llmrec_spark.model.taste_ranker import open_taste_ranker

USERS_AT_ONCE = 64


class Tastes(NamedTuple):
    """U users, flat: user u owns impressions offsets[u] to offsets[u + 1]."""

    item: np.ndarray  # (n,) int64 of the catalogue
    alpha: np.ndarray  # (n,) float64
    offsets: np.ndarray  # (U + 1,)
    level: np.ndarray  # (U,) float64, log-odds
    kept: np.ndarray  # (n,) the place of each in the flattened input
    residual: np.ndarray  # (n,) float64
    clicked: np.ndarray  # (n,) bool
    age_days: np.ndarray  # (n,) float64
    texts: np.ndarray | None = None  # (U, 2, D) float32 of clicks and skips as texts, where the network reads them

    def of(self, user: int) -> slice:
        """The rows of one user."""
        return slice(int(self.offsets[user]), int(self.offsets[user + 1]))


class Probabilities(NamedTuple):
    """Both of one shape."""

    click: np.ndarray
    conversion: np.ndarray

    def value(self, pricing: str, price: np.ndarray) -> np.ndarray:
        """What an impression is worth: `price` is the bid per click, or the mean value per conversion."""
        chance = self.click if pricing == "per_click" else self.click * self.conversion
        return np.asarray(chance * price)


class TrainedAds:
    """The ads of a run as the trained ranker sees them."""

    def __init__(self, folder: str) -> None:
        self.folder, self.catalogue = folder, open_catalogue(folder)
        self.ranker = open_taste_ranker(str(Path(folder) / RANKER))
        self.columns = np.load(Path(folder) / COLUMNS, mmap_mode="r", allow_pickle=False)
        self.shown, self.clicks, self.settled, self.converted = np.load(Path(folder) / COUNTS, allow_pickle=False).T
        self.items = pd.Index(self.catalogue.ad_ids)
        self.row = np.full(len(self.catalogue.fields) + 1, -1, dtype=np.int64)  # the last one serves item -1
        self.row[self.catalogue.behaviours] = np.arange(len(self.catalogue.behaviours))

    @cached_property
    def features(self) -> ItemFeatures:
        """Of every item."""
        return self.ranker.reader.features(self.catalogue, np.asarray(self.columns))

    @cached_property
    def slopes(self) -> np.ndarray:
        """(I, M) of every item."""
        return self.features.slope_table

    @cached_property
    def weights(self) -> np.ndarray:
        """(F,) of the kernels."""
        return self.ranker.weights(self.features)

    @cached_property
    def effects(self) -> tuple[np.ndarray, np.ndarray]:
        """b and b' of every item, (I,) each: on clicks, and on conversions given a click."""
        known = self.ranker.reader.prior_features(self.features)
        return (
            self.ranker.click.effects(known, self.shown, self.clicks),
            self.ranker.conversion.effects(known, self.settled, self.converted),
        )

    @cached_property
    def first_position(self) -> float:
        """c_1."""
        return float(self.ranker.position(np.ones(1))[0])

    def kernels(self, rows: Tensor) -> Tensor:
        """K between the items of each row of `rows` (B, T), -1 pads: (B, T, T) float64."""
        table = torch.zeros(*rows.shape, rows.shape[1], dtype=torch.double)
        for user, items in enumerate(rows.numpy()):
            own = items[items >= 0]
            stack = pair_kernels(self.features, own, own)
            table[user, : len(own), : len(own)] = torch.as_tensor(np.tensordot(self.weights, stack, 1))
        return table

    def tastes(self, batch: pd.DataFrame) -> pd.DataFrame:
        """user_id, level, weights, residuals (of each impression; 0 where its ad is unknown) of users with a history.

        batch  user_id, shown_ads, clicked, positions: lists of one length

        In float64: with others beside a user, whose histories are padded together, the last bits differ.
        """
        found = [
            self._tastes(batch.iloc[start : start + USERS_AT_ONCE]) for start in range(0, len(batch), USERS_AT_ONCE)
        ]
        return pd.concat(found, ignore_index=True)

    def _tastes(self, batch: pd.DataFrame) -> pd.DataFrame:
        ads, lengths = flatten(batch["shown_ads"])
        clicked = flatten(batch["clicked"])[0].astype(np.float64)
        positions = pd.to_numeric(pd.Series(flatten(batch["positions"])[0]), errors="coerce").to_numpy(dtype=np.float64)
        item = self._known(ads)
        user = np.repeat(np.arange(len(batch)), lengths)
        offset = self.effects[0][item] + self.ranker.position(positions)
        values = (item, clicked, offset)
        histories = PaddedHistories(*padded(user, len(batch), values, (-1, 0.0, 0.0)))
        # an unknown ad stands anywhere in a history: pad on the right, as the kernels expect
        order = torch.argsort((histories.item < 0).to(torch.int8), dim=1, stable=True)
        histories = PaddedHistories(*(torch.gather(one, 1, order) for one in histories))
        alpha = behaviour_weights(histories, self.kernels(histories.item), self.ranker.level)
        level = fitted_levels(histories, self.ranker.level)
        found = {"user_id": batch["user_id"].to_numpy(), "level": level.numpy()}
        for name, one in (("weights", alpha), ("residuals", residuals(histories, level))):
            back = torch.zeros_like(one).scatter(1, order, one).numpy()
            found[name] = [row[:length] for row, length in zip(back, lengths, strict=True)]
        return pd.DataFrame(found)

    def read(self, batch: pd.DataFrame) -> Tastes:
        """The tastes of requests: the columns of matches.TASTE, NULL for a user without a history, and of TEXTS."""
        ads, lengths = flatten(batch["shown_ads"])
        names = ("weights", "residuals", "age_days")
        alpha, residual, ages = (flatten(batch[name])[0].astype(np.float64) for name in names)
        clicked = flatten(batch["clicked"])[0].astype(bool)
        item = self._known(ads)
        kept = np.flatnonzero((item >= 0) & (alpha != 0.0))
        user = np.repeat(np.arange(len(batch)), lengths)[kept]
        offsets = np.concatenate([[0], np.cumsum(np.bincount(user, minlength=len(batch)))])
        level = batch["level"].to_numpy(dtype=np.float64)
        level = np.where(np.isnan(level), self.ranker.level.mean, level)
        residual, clicked, ages = (one[kept] for one in (residual, clicked, ages))
        first = item[kept], alpha[kept], offsets.astype(np.int64), level, kept
        return Tastes(*first, residual, clicked, ages, self._texts(batch))

    def _texts(self, batch: pd.DataFrame) -> np.ndarray | None:
        """(U, 2, D) of a network that reads texts; None in a step that does not ask it, which has no such column."""
        network = None if self.ranker.rerank is None else self.ranker.rerank.network
        if network is None or network.shape.config.behaviours != "text" or "texts" not in batch:
            return None
        return np.stack([read_texts(pair, width=network.shape.text_width) for pair in batch["texts"]])

    def _known(self, ad_ids: np.ndarray) -> np.ndarray:
        """Items of ads, -1 where one is not in the catalogue or has no text."""
        item = self.items.get_indexer(ad_ids)
        return np.where(self.row[item] >= 0, item, -1)

    def block(self, tastes: Tastes, block: int, block_ads: int) -> np.ndarray:
        """taste of every user for a block of live ads, (U, B) float64."""
        table = taste_table(self.folder, block, block_ads)
        return taste_block(table, self.row[tastes.item], tastes.alpha, tastes.offsets)

    def pairs(self, tastes: Tastes, user: int, items: np.ndarray) -> np.ndarray:
        """taste of one user for the items (K,), by the kernels of the pairs."""
        own = tastes.of(user)
        stack = pair_kernels(self.features, tastes.item[own], items)
        return np.asarray(tastes.alpha[own] @ np.tensordot(self.weights, stack, 1))

    @cached_property
    def ad_table(self) -> AdTable:
        """What a network reads of the ads."""
        return ad_table(self.catalogue, self.features, self.clicks)

    def log_odds(self, level: np.ndarray, items: np.ndarray, taste: np.ndarray) -> np.ndarray:
        """At the first position: level (U,), items (K,), taste (U, K) -> (U, K)."""
        return np.asarray(level[:, None] + self.first_position + self.effects[0][items] + taste)

    def probabilities(
        self, log_odds: np.ndarray, items: np.ndarray, taste: np.ndarray, *, level: np.ndarray
    ) -> Probabilities:
        """p_click of log_odds (..., K), and p_conversion given a click; items (K,), taste (..., K), level (..., 1)."""
        moved = log_odds - (level + self.first_position + self.effects[0][items] + taste)
        of_ad = self.effects[1][items]
        return Probabilities(self.ranker.clicks(log_odds, moved=moved), self.ranker.conversions(of_ad, taste))


@lru_cache(maxsize=1)
def trained_ads(folder: str) -> TrainedAds | None:
    """The ads of a run, one for all tasks of a worker; None where its model has no ranker."""
    return TrainedAds(folder) if (Path(folder) / RANKER).is_dir() else None


@lru_cache(maxsize=1)
def taste_table(folder: str, block: int, block_ads: int) -> Tensor:
    """K of everything that behaves x a block of live ads, (G, B) float32; cached: a task keeps to one."""
    ads = trained_ads(folder)
    assert ads is not None
    live = ads.catalogue.live[block * block_ads : (block + 1) * block_ads]
    return kernel_table(ads.features, ads.weights, np.asarray(ads.catalogue.behaviours), np.asarray(live))
