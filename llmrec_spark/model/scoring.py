"""Scores a batch of users against a block of live ads, or against the few candidates each was given.

The match of each pair is there always; what a list is ordered by is the untrained score, or that of a trained ranker.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.model.behaviour_encoder import encode_histories, flatten
from llmrec_spark.model.catalogue import open_catalogue
from llmrec_spark.model.match import Parameters, block_tables, match_block, match_pairs
from llmrec_spark.model.ranker import AdFigures, Scores, keep_best, untrained_scores
from llmrec_spark.model.taste_reranking import reranked
from llmrec_spark.model.taste_scoring import TrainedAds, trained_ads


class LiveAds:
    """The live ads of a run with their figures, as a worker holds them.

    figures: rate, background, sigma, price of every live ad in order of ad_id; price is what value.pricing multiplies.
    """

    def __init__(
        self,
        folder: str,
        figures: pd.DataFrame,
        match: MatchConfig,
        device: str,
        *,
        ranking: RankingConfig | None = None,
        value: ValueConfig | None = None,
    ) -> None:
        self.folder, self.match, self.device = folder, match, device
        self.by_value = ranking is not None and ranking.order_by == "expected_value"
        self.pricing = (value or ValueConfig()).pricing
        self.catalogue = open_catalogue(folder)
        self.trained: TrainedAds | None = trained_ads(folder)
        self.parameters = Parameters.of(match)
        self.index = pd.Index(self.catalogue.live_ids)
        self.rate = figures["rate"].to_numpy(dtype=np.float64)
        self.background = figures["background"].to_numpy(dtype=np.float64)
        self.price = figures["price"].to_numpy(dtype=np.float64)
        self.sigma = float(figures["sigma"].iloc[0]) if len(figures) else float("nan")

    def score(self, matched: np.ndarray, ads: np.ndarray, has_history: np.ndarray) -> Scores:
        """Scores of match (U, n) for the live ads `ads` (n,); has_history (U,) bool, without it rates decide."""
        figures = AdFigures(self.rate[ads], self.background[ads], self.sigma)
        by_match = has_history & (self.match.form == "uniform")
        return untrained_scores(matched, figures, beta=self.match.beta, by_match=by_match)

    def trained_score(self, scores: Scores, ads: np.ndarray, level: np.ndarray, taste: np.ndarray) -> Scores:
        """The same lift, and what the ranker makes of level (U,) and taste (U, n) for the live ads `ads` (n,)."""
        assert self.trained is not None
        items = self.catalogue.live[ads]
        log_odds = self.trained.log_odds(level, items, taste)
        if not self.by_value:
            return scores._replace(log_odds=log_odds, score=log_odds)
        found = self.trained.probabilities(log_odds, items, taste, level=level[:, None])
        return scores._replace(log_odds=log_odds, score=found.value(self.pricing, self.price[ads]))

    def rows(self, users: pd.Series, ads: np.ndarray, matched: np.ndarray, scores: Scores) -> pd.DataFrame:
        """Rows of `matches`, all arguments (n,); ads are places among the live ones."""
        return pd.DataFrame(
            {
                "user_id": users.to_numpy(),
                "ad_id": self.catalogue.live_ids[ads],
                "match": matched,
                "background": self.background[ads],
                "rate": self.rate[ads],
                "lift": scores.lift,
                "log_odds": scores.log_odds,
                "score": scores.score,
            }
        )


def score_block(live: LiveAds, requests: pd.DataFrame, block: int, keep: int | None) -> pd.DataFrame:
    """The best `keep` of a block for each user, without excluded ads; or (None) the user's candidates in the block."""
    size = live.match.block_ads
    ads = np.arange(block * size, min((block + 1) * size, len(live.index)))
    has_text = (live.catalogue.fields[live.catalogue.live[ads]] >= 0).any(axis=1)
    tables = block_tables(live.folder, block, size, live.parameters, live.device)
    histories = encode_histories(requests, live.catalogue)
    matched = match_block(tables, histories, has_text, live.parameters)  # (U, B)
    scores = live.score(matched, ads, np.diff(histories.offsets) > 0)
    if live.trained is not None:
        tastes = live.trained.read(requests)
        scores = live.trained_score(scores, ads, tastes.level, live.trained.block(tastes, block, size))
    if keep is None:
        users, columns = _listed(live, requests["candidates"], ads)
    else:
        shown = np.ones(matched.shape, dtype=bool)
        shown[_listed(live, requests["excluded"], ads)] = False
        users, columns = keep_best(scores, shown, keep)
    at = (users, columns)
    kept = Scores(*(one[at] for one in scores))
    return live.rows(requests["user_id"].iloc[users], ads[columns], matched[at], kept)


def score_candidates(live: LiveAds, requests: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of each user, by the direct formula."""
    histories = encode_histories(requests, live.catalogue)
    tastes = None if live.trained is None else live.trained.read(requests)
    found = []
    for user, candidates in enumerate(requests["candidates"]):
        ads = live.index.get_indexer(candidates)
        items = live.catalogue.live[ads]
        matched = match_pairs(live.catalogue, histories, user, items, live.parameters, live.device).match[None, :]
        scores = live.score(matched, ads, np.diff(histories.offsets[user : user + 2]) > 0)
        if live.trained is not None and tastes is not None:
            taste = live.trained.pairs(tastes, user, items)[None, :]
            scores = live.trained_score(scores, ads, tastes.level[user : user + 1], taste)
        users = requests["user_id"].iloc[np.full(len(ads), user)]
        found.append(live.rows(users, ads, matched[0], Scores(*(one[0] for one in scores))))
    return pd.concat(found, ignore_index=True)


def score_again(live: LiveAds, users: pd.DataFrame) -> pd.DataFrame:
    """Rows of `matches` with the log_odds and score of the ranker's second step.

    users  one row a user: their rows of `matches` as arrays; the columns of matches.TASTE, and TEXTS if they are read
    """
    trained = live.trained
    assert trained is not None
    tastes = trained.read(users)
    ad_ids, lengths = flatten(users["ad_id"])
    user, items = np.repeat(np.arange(len(users)), lengths), trained.items.get_indexer(ad_ids)
    found = [reranked(trained, tastes, number, items[user == number]) for number in range(len(users))]
    log_odds, taste = (np.concatenate(one) for one in zip(*found, strict=True))
    level = tastes.level[user]
    rows = {"user_id": users["user_id"].to_numpy()[user], "ad_id": ad_ids}
    rows |= {name: flatten(users[name])[0].astype(np.float64) for name in ("match", "background", "rate", "lift")}
    value = log_odds
    if live.by_value:
        price = live.price[live.index.get_indexer(ad_ids)]
        value = trained.probabilities(log_odds, items, taste, level=level).value(live.pricing, price)
    return pd.DataFrame(rows | {"log_odds": log_odds, "score": value})


def _listed(live: LiveAds, lists: pd.Series, ads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """User and column of each listed ad that is in the block."""
    ad_ids, lengths = flatten(lists)
    column = live.index.get_indexer(ad_ids) - (ads[0] if len(ads) else 0)
    inside = (column >= 0) & (column < len(ads)) & (live.index.get_indexer(ad_ids) >= 0)
    return np.repeat(np.arange(len(lists)), lengths)[inside], column[inside]
