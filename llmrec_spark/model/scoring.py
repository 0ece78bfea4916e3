"""Scores a batch of users against a block of live ads, or against the few candidates each was given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.behaviour_encoder import encode_histories, flatten
from llmrec_spark.model.catalogue import open_catalogue
from llmrec_spark.model.match import Parameters, block_tables, match_block, match_pairs
from llmrec_spark.model.ranker import AdFigures, Scores, keep_best, untrained_scores


class LiveAds:
    """The live ads of a run with their figures, as a worker holds them.

    figures: rate, background, sigma of every live ad in order of ad_id.
    """

    def __init__(self, folder: str, figures: pd.DataFrame, match: MatchConfig, device: str) -> None:
        self.folder, self.match, self.device = folder, match, device
        self.catalogue = open_catalogue(folder)
        self.parameters = Parameters.of(match)
        self.index = pd.Index(self.catalogue.live_ids)
        self.rate = figures["rate"].to_numpy(dtype=np.float64)
        self.background = figures["background"].to_numpy(dtype=np.float64)
        self.sigma = float(figures["sigma"].iloc[0]) if len(figures) else float("nan")

    def score(self, matched: np.ndarray, ads: np.ndarray, has_history: np.ndarray) -> Scores:
        """Scores of match (U, n) for the live ads `ads` (n,); has_history (U,) bool, without it rates decide."""
        figures = AdFigures(self.rate[ads], self.background[ads], self.sigma)
        by_match = has_history & (self.match.form == "uniform")
        return untrained_scores(matched, figures, beta=self.match.beta, by_match=by_match)

    def rows(
        self, users: pd.Series, ads: np.ndarray, matched: np.ndarray, lift: np.ndarray, score: np.ndarray
    ) -> pd.DataFrame:
        """Rows of `matches`, all arguments (n,); ads are places among the live ones."""
        return pd.DataFrame(
            {
                "user_id": users.to_numpy(),
                "ad_id": self.catalogue.live_ids[ads],
                "match": matched,
                "background": self.background[ads],
                "rate": self.rate[ads],
                "lift": lift,
                "score": score,
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
    if keep is None:
        users, columns = _listed(live, requests["candidates"], ads)
    else:
        shown = np.ones(matched.shape, dtype=bool)
        shown[_listed(live, requests["excluded"], ads)] = False
        users, columns = keep_best(scores, shown, keep)
    at = (users, columns)
    return live.rows(requests["user_id"].iloc[users], ads[columns], matched[at], scores.lift[at], scores.score[at])


def score_candidates(live: LiveAds, requests: pd.DataFrame) -> pd.DataFrame:
    """Every candidate of each user, by the direct formula."""
    histories = encode_histories(requests, live.catalogue)
    found = []
    for user, candidates in enumerate(requests["candidates"]):
        ads = live.index.get_indexer(candidates)
        items = live.catalogue.live[ads]
        matched = match_pairs(live.catalogue, histories, user, items, live.parameters, live.device).match[None, :]
        scores = live.score(matched, ads, np.diff(histories.offsets[user : user + 2]) > 0)
        users = requests["user_id"].iloc[np.full(len(ads), user)]
        found.append(live.rows(users, ads, matched[0], scores.lift[0], scores.score[0]))
    return pd.concat(found, ignore_index=True)


def _listed(live: LiveAds, lists: pd.Series, ads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """User and column of each listed ad that is in the block."""
    ad_ids, lengths = flatten(lists)
    column = live.index.get_indexer(ad_ids) - (ads[0] if len(ads) else 0)
    inside = (column >= 0) & (column < len(ads)) & (live.index.get_indexer(ad_ids) >= 0)
    return np.repeat(np.arange(len(lists)), lengths)[inside], column[inside]
