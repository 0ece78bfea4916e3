"""Scorers of RankLens that learn: the item effect, the taste GP on top of it, and rankers on features of both."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from ranklens_films import Films
from ranklens_forms import Score, Scorer, Statistics, of_films
from ranklens_trainer import Trainer

from llmrec_spark.model.taste_gp import PaddedHistories, PaddedLists
from llmrec_spark.model.tree_ranker import ensemble

OfLists = Callable[[Trainer, PaddedHistories, PaddedLists], np.ndarray]  # -> (lists, longest)


def item_effect(trainer: Trainer) -> Score:
    """The item effect of each film."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        return of_films(trainer.learn(training, candidates).effect, candidates)

    return score


def of_lists(trainer: Trainer, score_lists: OfLists) -> Score:
    """A scorer of padded lists beside the histories of their users."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        learned = trainer.learn(training, candidates)
        known = trainer.known(learned, histories, candidates.drop_duplicates("list")["user"].to_numpy())
        asked, code, place = trainer.asked(learned, candidates)
        found = score_lists(trainer, known, asked)
        return np.where(candidates["item"] >= 0, found[code, place], np.nan)

    return score


def taste_scores(trainer: Trainer, known: PaddedHistories, asked: PaddedLists) -> np.ndarray:
    """Item effect + taste: the factorised form."""
    return asked.offset.double().numpy() + trainer.taste(known, asked)


def linear_scores(trainer: Trainer, known: PaddedHistories, asked: PaddedLists) -> np.ndarray:
    """The list-wise linear ranker."""
    return trainer.linear.score(trainer.ranker_features(known, asked).double().numpy())


def tree_scores(trainer: Trainer, known: PaddedHistories, asked: PaddedLists) -> np.ndarray:
    """LambdaMART."""
    values = trainer.ranker_features(known, asked).numpy()
    return trainer.trees.score(values.reshape(-1, values.shape[2])).reshape(values.shape[:2])


def ensemble_scores(trainer: Trainer, known: PaddedHistories, asked: PaddedLists) -> np.ndarray:
    """The mean of taste GP, linear ranker and trees, each standardised inside its list."""
    parts = (taste_scores, linear_scores, tree_scores)
    present = (asked.item >= 0).numpy()
    found = np.full(present.shape, np.nan)
    found[present] = ensemble([one(trainer, known, asked)[present] for one in parts], present.sum(axis=1))
    return found


def trained_scorers(films: Films, *, metadata: bool) -> dict[str, Scorer]:
    """Every trained scorer by name, in the order of the table."""
    trainer = Trainer(films, metadata=metadata)
    return {
        "item effect": Scorer(item_effect(trainer), ("rate",)),
        "taste GP": Scorer(of_lists(trainer, taste_scores), ("item effect", "rate")),
        "linear": Scorer(of_lists(trainer, linear_scores), ("taste GP",)),
        "trees": Scorer(of_lists(trainer, tree_scores), ("linear",)),
        "ensemble": Scorer(of_lists(trainer, ensemble_scores), ("linear", "taste GP", "rate")),
    }
