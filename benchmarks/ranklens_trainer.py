"""What the trained scorers of RankLens learn from a trial: item effects, kernel weights, features and rankers on them.

Statistics of a training row come from the other inner groups of users, its history from the user's other lists. Where
no candidate was ever shown (protocol cold), training is as if its own candidates had not been either: their effect is
what the prior, fitted without them, says.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from ranklens_films import Films, film_people, known
from ranklens_lists import other_lists, padded_histories, padded_lists

from llmrec_spark.model.item_effect import Impressions
from llmrec_spark.model.item_prior import LEARNED_ON, LearnedEffects, first_effects, learn_item_effects, learn_variances
from llmrec_spark.model.linear_ranker import LinearRanker, fit_linear_ranker
from llmrec_spark.model.pair_features import compared_kernels, feature_names, padded_pairs, pair_features
from llmrec_spark.model.pair_kernels import ItemFeatures, KernelStack, item_features
from llmrec_spark.model.taste_gp import (
    Level,
    PaddedHistories,
    PaddedLists,
    alphas,
    learn_theta,
    place_within,
    taste_of_lists,
)
from llmrec_spark.model.tree_ranker import TreeRanker, fit_tree_ranker
from llmrec_spark.ranklens import ZERO_IF_UNKNOWN

FIELDS = ("title", "overview", "tags", "genres", "people")
INNER_FOLDS = 5
TRAINING_LISTS = 2_400  # that kernel weights are learned from
LISTS_AT_ONCE = 64
LOGGED = {  # of metadata
    "votes": "tmdbVoteCount",
    "popularity": "tmdbPopularity",
    "budget": "budget",
    "revenue": "revenue",
}
PLAIN = {"rating": "tmdbVoteAverage"}
OF_TEXT = {"year": "releaseDate", "runtime": "runtime"}


def film_features(films: Films, *, metadata: bool) -> ItemFeatures:
    """What the kernels and the prior compare. Columns that the records lack are left out, numbers not known are NaN."""
    records = films.records.copy()
    for column in set(ZERO_IF_UNKNOWN) & set(records):
        records[column] = records[column].astype(float).replace(0.0, np.nan)
    columns = {name: records[column] for name, column in OF_TEXT.items() if column in records}
    if metadata:
        columns |= {name: records[column] for name, column in PLAIN.items() if column in records}
        columns |= {name: np.log1p(records[column]) for name, column in LOGGED.items() if column in records}
    people = zip(records["topActors"], records["director"], records["writer"], strict=True)
    sets = {
        "genres": [[one["name"] for one in known(genres)] for genres in records["genres"]],
        "tags": [known(tags) for tags in records["tags"]],
        "people": [film_people(*one) for one in people],
    }
    values = {name: column.to_numpy(dtype=np.float64) for name, column in columns.items()}
    return item_features(films.catalogue, FIELDS, sets=sets, columns=values)


class Learned(NamedTuple):
    """What one trial's training impressions teach, and its training lists."""

    effects: LearnedEffects
    effect: np.ndarray  # (A,) of candidates
    level: Level
    histories: PaddedHistories  # of the training lists
    lists: PaddedLists
    groups: np.ndarray  # (L,) inner group of each training list


class Trainer:
    """Films with their kernels; what was learned from a trial is kept until the next trial's training comes."""

    def __init__(self, films: Films, *, metadata: bool) -> None:
        self.films, self.metadata = films, metadata
        self.training: pd.DataFrame | None = None

    @cached_property
    def features(self) -> ItemFeatures:
        return film_features(self.films, metadata=self.metadata)

    @cached_property
    def kernels(self) -> KernelStack:
        return KernelStack(self.features)

    def learn(self, training: pd.DataFrame, candidates: pd.DataFrame) -> Learned:
        """Learned once per trial."""
        if self.training is not training:
            self.training, self.cold = training, not candidates["item"].isin(training["item"]).any()
            self.learned = self._learn(training)
            for late in ("theta", "training_features", "linear", "trees"):
                self.__dict__.pop(late, None)
        return self.learned

    @cached_property
    def theta(self) -> np.ndarray:
        """Kernel weights from some of the training lists."""
        lists, histories = self.learned.lists, self.learned.histories
        rows = torch.randperm(len(lists.item), generator=torch.Generator().manual_seed(0))[:TRAINING_LISTS]
        count = len(self.kernels.names)
        return learn_theta(
            histories.part(rows), lists.part(rows), self.kernels, self.learned.level, count=count, seed=0
        )

    def taste(self, known: PaddedHistories, asked: PaddedLists) -> np.ndarray:
        """(B, C) of the lists `asked`, by the histories beside them."""
        alpha = alphas(known, self.kernels, self.theta, self.learned.level)
        return taste_of_lists(alpha, known.item, asked.item, self.kernels, self.theta)

    @torch.no_grad()
    def ranker_features(self, known: PaddedHistories, asked: PaddedLists) -> torch.Tensor:
        """What the rankers read of every list, (B, C, P)."""
        taste = torch.as_tensor(self.taste(known, asked)).float()
        columns = torch.as_tensor(self.features.slope_table)
        kept = compared_kernels(self.kernels.names)
        found = []
        for start in range(0, max(len(taste), 1), LISTS_AT_ONCE):
            part = slice(start, start + LISTS_AT_ONCE)
            histories, lists = known.part(part), asked.part(part)
            stack = self.kernels(histories.item, lists.item)[..., kept]
            given = padded_pairs(histories, lists, taste[part], stack, columns, self.learned.level)
            values = pair_features(given)
            found.append(torch.cat([values[..., :1], within_list(lists), values[..., 1:]], dim=2))
        return torch.cat(found)

    def feature_names(self) -> tuple[str, ...]:
        """Of ranker_features, in order."""
        kernels = [self.kernels.names[place] for place in compared_kernels(self.kernels.names)]
        first, *others = feature_names(kernels, list(self.features.slopes))
        return (first, "effect in list", "effect rank", *others)

    @cached_property
    def training_features(self) -> torch.Tensor:
        return self.ranker_features(self.learned.histories, self.learned.lists)

    @cached_property
    def linear(self) -> LinearRanker:
        lists = self.learned.lists
        return fit_linear_ranker(self.training_features, lists.clicked, lists.item >= 0)

    @cached_property
    def trees(self) -> TreeRanker:
        lists, features = self.learned.lists, self.training_features
        present = lists.item >= 0
        sizes = present.sum(dim=1).numpy()
        rows, clicked = features[present].numpy(), lists.clicked[present].numpy()
        return fit_tree_ranker(rows, clicked, sizes, names=self.feature_names(), seed=0)

    def impressions(self, rows: pd.DataFrame) -> tuple[Impressions, dict[str, int]]:
        """Impressions of films with a record, as codes, and how many users and positions there are."""
        user, users = pd.factorize(rows["user"])
        position = rows["position"].to_numpy() - 1
        shown = Impressions(user, rows["item"].to_numpy(), position, rows["clicked"].to_numpy())
        return shown, {"users": len(users), "positions": int(position.max(initial=0)) + 1}

    def prior_table(self, rows: pd.DataFrame) -> tuple[torch.Tensor, float]:
        """K of the prior and its mean, with variances learned from some of the films that were shown."""
        shown, sizes = self.impressions(rows)
        target, noise = first_effects(shown, self.kernels.items, **sizes)
        met = np.unique(rows["item"])
        some = np.sort(np.random.default_rng(0).permutation(met)[:LEARNED_ON])
        learned = learn_variances(self.kernels(*[torch.as_tensor(some)[None]] * 2)[0], target[some], noise[some])
        return self.kernels.table(learned.kernels), learned.mean

    def effects(self, rows: pd.DataFrame, table: torch.Tensor, mean: float) -> LearnedEffects:
        """Item effects and their prior."""
        shown, sizes = self.impressions(rows)
        return learn_item_effects(shown, table, mean, **sizes)

    def of_candidates(self, found: LearnedEffects) -> np.ndarray:
        """(A,) effect of a film as a candidate: in cold what the prior says of it."""
        return found.prior if self.cold else found.effects.effect

    def _learn(self, training: pd.DataFrame) -> Learned:
        rows = training[training["item"] >= 0].reset_index(drop=True)
        rows["code"] = pd.factorize(rows["list"])[0]
        table, mean = self.prior_table(rows)
        whole = self.effects(rows, table, mean)
        offset, asked = np.zeros(len(rows)), np.zeros(len(rows))
        for group in range(INNER_FOLDS):
            inside = (rows["inner_fold"] == group).to_numpy()
            if inside.any():
                found = self.effects(rows[~inside], table, mean)
                item = rows["item"].to_numpy()[inside]
                offset[inside] = found.effects.effect[item] + self.position_effect(found, rows["position"][inside])
                asked[inside] = self.of_candidates(found)[item]
        owner, row = other_lists(rows)
        lists = int(rows["code"].max() + 1) if len(rows) else 0
        share = rows.groupby("code")["clicked"].mean().to_numpy()
        chosen = (share > 0) & (share < 1) & (np.bincount(owner, minlength=lists) > 0)
        new = np.cumsum(chosen) - 1
        keep, shown = chosen[owner], chosen[rows["code"]]
        histories = padded_histories(new[owner[keep]], rows.iloc[row[keep]], chosen.sum(), offset[row[keep]])
        mine = rows[shown]
        asks = padded_lists(
            new[mine["code"]], mine["item"].to_numpy(), mine["clicked"].to_numpy(), chosen.sum(), asked[shown]
        )
        groups = rows.groupby("code")["inner_fold"].first().to_numpy()[chosen]
        if self.cold:
            histories = without(histories, asks)
        return Learned(whole, self.of_candidates(whole), Level(whole.effects.mean_level), histories, asks, groups)

    def position_effect(self, found: LearnedEffects, position: pd.Series) -> np.ndarray:
        """c of each row; 0 beyond the positions that were met."""
        return np.append(found.effects.position, np.zeros(100))[position.to_numpy() - 1]

    def known(self, learned: Learned, histories: pd.DataFrame, users: np.ndarray) -> PaddedHistories:
        """The histories of the users, in their order."""
        rows = histories[histories["item"] >= 0]
        owner = pd.Index(users).get_indexer(rows["user"])
        order = np.argsort(owner, kind="stable")
        rows, owner = rows.iloc[order], owner[order]
        offset = learned.effects.effects.effect[rows["item"]] + self.position_effect(learned.effects, rows["position"])
        return padded_histories(owner, rows, len(users), offset)

    def asked(self, learned: Learned, candidates: pd.DataFrame) -> tuple[PaddedLists, np.ndarray, np.ndarray]:
        """Candidates padded list by list, and the place of each row of them."""
        code = pd.factorize(candidates["list"])[0]
        item = candidates["item"].to_numpy()
        offset = np.append(learned.effect, 0.0)[item]
        place = place_within(code)
        return padded_lists(code, item, np.zeros(len(code)), code.max(initial=-1) + 1, offset), code, place


def within_list(lists: PaddedLists) -> torch.Tensor:
    """The effect less the mean of its list, and the share of the list whose effect is higher, (B, C, 2)."""
    shown = lists.item >= 0
    count = shown.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (lists.offset * shown).sum(dim=1, keepdim=True) / count
    better = (lists.offset[:, None, :] > lists.offset[:, :, None]) & shown[:, None, :]  # (B, C, C)
    return torch.stack([lists.offset - mean, better.sum(dim=2) / count], dim=2)


def without(histories: PaddedHistories, lists: PaddedLists) -> PaddedHistories:
    """Histories without the films that the list asks for: a film nobody met stands in no history."""
    repeated = (histories.item[:, :, None] == lists.item[:, None, :]).any(dim=2)
    return histories._replace(item=histories.item.masked_fill(repeated, -1))
