"""Everything that can order a list of RankLens, as functions of one form. A new scorer is one more entry of `scorers`.

A scorer sees the impressions it may learn from, the statistics taken from them, the histories of the users it scores
and the candidates, and returns one score per candidate (best first; NaN, which ranks last, where it has none):

    def score(training, statistics, histories, candidates) -> np.ndarray

What holds for all trials (films, configuration, a seed, a network's settings) is bound when the scorer is made. One
that learns does so inside `score`, which is called once per trial; features that are themselves learned come from the
other inner groups of users (column inner_fold). Candidates carry no answers, and neither training nor histories hold
the lists they are of, so nothing a scorer is given tells it what was clicked in what it ranks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd
from ranklens_films import Films
from ranklens_forms import Score, Scorer, Statistics, of_films
from ranklens_trained import trained_scorers

from llmrec_spark.ad_statistics import RATE_BOUNDS
from llmrec_spark.config import Config
from llmrec_spark.model.behaviour_encoder import encode_histories
from llmrec_spark.model.match import Parameters, match_block
from llmrec_spark.model.ranker import AdFigures, untrained_scores


def scorers(films: Films, config: Config, *, metadata: bool = True) -> dict[str, Scorer]:
    """Every scorer by name, in the order of the table.

    Without `metadata` the trained ones read texts, sets of the film's own (genres, tags, people), year and runtime.
    """
    return {
        "random": Scorer(everything_ties),
        "votes": Scorer(votes(films), ("random",)),
        "rate": Scorer(rate, ("random",)),
        "match": Scorer(untrained(films, config, "match"), ("random",)),
        "lift": Scorer(untrained(films, config, "lift"), ("match",)),
        "score": Scorer(untrained(films, config, "score"), ("rate", "votes")),
        **trained_scorers(films, metadata=metadata),
    }


def everything_ties(
    training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
) -> np.ndarray:
    """A random order: a metric of ties is its expectation over all orders of them."""
    return np.zeros(len(candidates))


def votes(films: Films) -> Score:
    """How many people rated the film elsewhere: the floor from metadata, known of films nobody was shown."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        return of_films(films.records["tmdbVoteCount"].to_numpy(), candidates)

    return score


def rate(
    training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
) -> np.ndarray:
    """The click rate of the film, (clicks + prior m) / (shown + prior): m for every film that was never shown."""
    return of_films(statistics.figures.rate, candidates)


def film_statistics(training: pd.DataFrame, films: Films, config: Config) -> Statistics:
    """Counts, rate, background and sigma from the training impressions, by the formulas of the daily run.

    background and sigma are taken over the users of `training`, each with the clicks that stand in it.
    """
    shown, clicks, rates = click_rates(training, len(films.ids), config.statistics.prior_shown)
    clicking = training.loc[training["clicked"] & (training["item"] >= 0), "user"].unique()
    users = sample(clicking, config.match.background_users)
    matched, has_history = match_all(films, histories_of(training, users, config), config)
    matched = matched[has_history]  # (U, A)
    background = matched.mean(axis=0) if len(matched) else np.full(len(films.ids), np.nan)
    spread = (matched - background)[:, films.has_text]
    sigma = float(np.sqrt(np.mean(spread**2))) if spread.size else float("nan")
    return Statistics(shown, clicks, AdFigures(rates, background, sigma))


def click_rates(training: pd.DataFrame, films: int, prior: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """shown, clicks and rate of each film, (A,) each: (clicks + prior m) / (shown + prior), m the overall mean."""
    of_film = training[training["item"] >= 0]
    shown = np.bincount(of_film["item"], minlength=films)
    clicks = np.bincount(of_film["item"][of_film["clicked"]], minlength=films)
    m = np.clip(clicks.sum() / max(shown.sum(), 1), *RATE_BOUNDS)
    return shown, clicks, (clicks + prior * m) / (shown + prior)


def sample(users: Iterable[str], count: int) -> list[str]:
    """All users, or the `count` with the smallest md5, by user."""
    in_order = sorted(users, key=lambda user: (hashlib.md5(user.encode()).hexdigest(), user))
    return sorted(in_order[:count])


def histories_of(impressions: pd.DataFrame, users: Iterable[str], config: Config) -> pd.DataFrame:
    """One row per user, in the order given: the last films clicked, oldest first, as the match reads a history."""
    clicks = impressions[impressions["clicked"] & (impressions["item"] >= 0)]
    last = clicks.groupby("user", sort=False).tail(config.sequences.max_behaviours)
    films = last.groupby("user", sort=False)["film"].agg(list).to_dict()
    lists = [films.get(user, []) for user in users]
    columns = {
        "ad_ids": lists,
        "query_hashes": [[None] * len(one) for one in lists],
        "log_priors": [[0.0] * len(one) for one in lists],  # a click weighs 1, and age says nothing
    }
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def match_all(films: Films, histories: pd.DataFrame, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """match of every user with every film, (U, A), NaN without history or text; and who has a history, (U,) bool."""
    encoded = encode_histories(histories, films.catalogue)
    matched = match_block(films.tables, encoded, films.has_text, Parameters.of(config.match))
    return matched, np.diff(encoded.offsets) > 0


def untrained(films: Films, config: Config, part: Literal["match", "lift", "score"]) -> Score:
    """The untrained scorers of the daily run: match; (match - background) / sigma; logit(rate) + beta lift."""

    def score(
        training: pd.DataFrame, statistics: Statistics, histories: pd.DataFrame, candidates: pd.DataFrame
    ) -> np.ndarray:
        user, users = pd.factorize(candidates["user"])
        matched, has_history = match_all(films, histories_of(histories, users, config), config)  # (U, A)
        by_match = has_history & (config.match.form == "uniform")
        scores = untrained_scores(matched, statistics.figures, beta=config.match.beta, by_match=by_match)
        item = candidates["item"].to_numpy()
        found = {"match": matched, "lift": scores.lift, "score": scores.score}[part]
        return np.where(item >= 0, found[user, item], np.nan)

    return score
