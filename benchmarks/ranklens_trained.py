"""Scorers of RankLens that learn: the item effect, the taste GP on top of it, and rankers on features of both.

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
from ranklens_forms import Score, Scorer, Statistics
from ranklens_lists import other_lists, padded_histories, padded_lists, places

from llmrec_spark.model.item_effect import Impressions, LearnedEffects, learn_item_effects
from llmrec_spark.model.pair_kernels import ItemFeatures, KernelStack, item_features
from llmrec_spark.model.prior_features import fit_prior_features
from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists, alphas, learn_theta, taste_of_lists

FIELDS = ("title", "overview", "tags", "genres", "people")
INNER_FOLDS = 5
TRAINING_LISTS = 2_400
LOGGED = {  # of metadata
    "votes": "tmdbVoteCount",
    "popularity": "tmdbPopularity",
    "budget": "budget",
    "revenue": "revenue",
}
PLAIN = {"rating": "tmdbVoteAverage"}
OF_TEXT = {"year": "releaseDate", "runtime": "runtime"}


def film_features(films: Films, *, metadata: bool) -> ItemFeatures:
    """What the kernels and the prior compare. Columns that the records lack are left out."""
    records = films.records
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

    @cached_property
    def of_prior(self) -> np.ndarray:
        return fit_prior_features(self.features).of(self.features)

    def learn(self, training: pd.DataFrame, candidates: pd.DataFrame) -> Learned:
        """Learned once per trial."""
        if self.training is not training:
            self.training, self.cold = training, not candidates["item"].isin(training["item"]).any()
            self.learned = self._learn(training)
            self.theta: np.ndarray | None = None
        return self.learned

    def effects(self, rows: pd.DataFrame) -> LearnedEffects:
        """Item effects from impressions of films with a record."""
        user, users = pd.factorize(rows["user"])
        position = rows["position"].to_numpy() - 1
        shown = Impressions(user, rows["item"].to_numpy(), position, rows["clicked"].to_numpy())
        return learn_item_effects(shown, self.of_prior, users=len(users), positions=int(position.max(initial=0)) + 1)

    def of_candidates(self, found: LearnedEffects) -> np.ndarray:
        """(A,) effect of a film as a candidate: in cold what the prior says of it."""
        unmet = found.model.predict(self.of_prior)
        met = found.effects.information > 0
        return np.where(met, found.prior if self.cold else found.effects.effect, unmet)

    def _learn(self, training: pd.DataFrame) -> Learned:
        rows = training[training["item"] >= 0].reset_index(drop=True)
        rows["code"] = pd.factorize(rows["list"])[0]
        whole = self.effects(rows)
        offset, asked = np.zeros(len(rows)), np.zeros(len(rows))
        for group in range(INNER_FOLDS):
            inside = (rows["inner_fold"] == group).to_numpy()
            if inside.any():
                found = self.effects(rows[~inside])
                item = rows["item"].to_numpy()[inside]
                offset[inside] = self.met(found)[item] + self.position_effect(found, rows["position"][inside])
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

    def met(self, found: LearnedEffects) -> np.ndarray:
        """(A,) effect of a film in a history."""
        return np.where(found.effects.information > 0, found.effects.effect, found.model.predict(self.of_prior))

    def position_effect(self, found: LearnedEffects, position: pd.Series) -> np.ndarray:
        """c of each row; 0 beyond the positions that were met."""
        return np.append(found.effects.position, np.zeros(100))[position.to_numpy() - 1]

    def known(self, learned: Learned, histories: pd.DataFrame, users: np.ndarray) -> PaddedHistories:
        """The histories of the users, in their order."""
        rows = histories[histories["item"] >= 0]
        owner = pd.Index(users).get_indexer(rows["user"])
        order = np.argsort(owner, kind="stable")
        rows, owner = rows.iloc[order], owner[order]
        offset = self.met(learned.effects)[rows["item"]] + self.position_effect(learned.effects, rows["position"])
        return padded_histories(owner, rows, len(users), offset)

    def asked(self, learned: Learned, candidates: pd.DataFrame) -> tuple[PaddedLists, np.ndarray, np.ndarray]:
        """Candidates padded list by list, and the place of each row of them."""
        code = pd.factorize(candidates["list"])[0]
        item = candidates["item"].to_numpy()
        offset = np.append(learned.effect, 0.0)[item]
        place, _ = places(code)
        return padded_lists(code, item, np.zeros(len(code)), code.max(initial=-1) + 1, offset), code, place


def without(histories: PaddedHistories, lists: PaddedLists) -> PaddedHistories:
    """Histories without the films that the list asks for: a film nobody met stands in no history."""
    repeated = (histories.item[:, :, None] == lists.item[:, None, :]).any(dim=2)
    return histories._replace(item=histories.item.masked_fill(repeated, -1))


def item_effect(trainer: Trainer) -> Score:
    """b of each film."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        learned = trainer.learn(training, candidates)
        return np.append(learned.effect, np.nan)[candidates["item"]]

    return score


def taste(trainer: Trainer) -> Score:
    """b + taste of the user."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        learned = trainer.learn(training, candidates)
        if trainer.theta is None:
            rows = torch.randperm(len(learned.lists.item), generator=torch.Generator().manual_seed(0))[:TRAINING_LISTS]
            trainer.theta = learn_theta(
                learned.histories.part(rows),
                learned.lists.part(rows),
                trainer.kernels,
                learned.level,
                count=len(trainer.kernels.names),
                seed=0,
            )
        users = candidates.drop_duplicates("list")["user"].to_numpy()
        known = trainer.known(learned, histories, users)
        asked, code, place = trainer.asked(learned, candidates)
        alpha = alphas(known, trainer.kernels, trainer.theta, learned.level)
        found = taste_of_lists(alpha, known.item, asked.item, trainer.kernels, trainer.theta)
        item = candidates["item"].to_numpy()
        return np.where(item >= 0, np.append(learned.effect, np.nan)[item] + found[code, place], np.nan)

    return score


def trained_scorers(films: Films, *, metadata: bool) -> dict[str, Scorer]:
    """Every trained scorer by name, in the order of the table."""
    trainer = Trainer(films, metadata=metadata)
    return {
        "item effect": Scorer(item_effect(trainer), ("rate",)),
        "taste GP": Scorer(taste(trainer), ("item effect",)),
    }
