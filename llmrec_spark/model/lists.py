"""Final lists of a batch of users: rows chosen under caps, each with its reasons."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.model.behaviour_encoder import Histories, encode_histories, flatten
from llmrec_spark.model.catalogue import open_catalogue
from llmrec_spark.model.kernel_groups import COLUMNS, GROUPS, kernel_group
from llmrec_spark.model.match import Parameters, match_pairs
from llmrec_spark.model.ranker import MIN_SIGMA, best_first, fill_lists
from llmrec_spark.model.reasons import KEYWORDS, Reason, list_reasons, set_off
from llmrec_spark.model.taste_reranking import terms_of
from llmrec_spark.model.taste_scoring import Tastes, TrainedAds, trained_ads

FIGURES = ("score", "log_odds", "match", "rate", "lift")
TRAINED = ("p_click", "p_conversion", "expected_value")
ALWAYS = ("effect", "level")  # reasons of every row: the ad's own pull, how readily the user clicks what is first


class ListMaker:
    """Turns each user's matched ads into the rows of the final list.

    groups (A, 3) int32: of each live ad, in order of ad_id, the number of its advertiser's, its category's and its near
    duplicates' group, which caps count; -1 for no group. figures: sigma and price of the same ads.
    """

    def __init__(
        self,
        folder: str,
        fields: Sequence[str],
        groups: np.ndarray,
        figures: pd.DataFrame,
        match: MatchConfig,
        ranking: RankingConfig,
        value: ValueConfig,
        device: str,
    ) -> None:
        self.catalogue = open_catalogue(folder)
        self.trained = trained_ads(folder)
        self.items = pd.Index(self.catalogue.ad_ids)
        self.groups = np.full((len(self.items), groups.shape[1]), -1, dtype=np.int64)
        self.groups[self.catalogue.live] = groups
        self.price = np.full(len(self.items), np.nan)
        self.price[self.catalogue.live] = figures["price"].to_numpy(dtype=np.float64)
        self.fields, self.device, self.length = tuple(fields), device, ranking.max_per_user
        self.parameters, self.pricing = Parameters.of(match), value.pricing
        sigma = float(figures["sigma"].iloc[0]) if len(figures) else float("nan")
        self.scale = match.beta / sigma if sigma >= MIN_SIGMA else 0.0  # false for NaN too
        duplicates = 1 if ranking.drop_near_duplicates else None
        self.caps = (ranking.max_per_advertiser, ranking.max_per_category, duplicates)

    def __call__(self, batch: pd.DataFrame) -> pd.DataFrame:
        """user_id, arrays of ads and their figures in any order, and a history each -> the rows of the lists."""
        ad_ids, lengths = flatten(batch["listed"])
        table = pd.DataFrame({"ad_id": ad_ids, **{name: flatten(batch[name])[0].astype(float) for name in FIGURES}})
        items, user = self.items.get_indexer(ad_ids), np.repeat(np.arange(len(batch)), lengths)
        order = best_first(user, items, table["score"].to_numpy(), table["log_odds"].to_numpy())
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        taken = order[fill_lists(offsets, self.groups[items[order]].T, self.caps, self.length)]
        user, lists = user[taken], table.iloc[taken].reset_index(drop=True)
        first = np.searchsorted(user, np.arange(len(batch)))
        histories = encode_histories(batch, self.catalogue)
        is_personal = np.diff(histories.offsets) > 0
        lists.insert(0, "user_id", batch["user_id"].to_numpy()[user])
        lists.insert(1, "rank", (np.arange(len(user)) - first[user] + 1).astype(np.int32))
        lists[list(TRAINED)] = np.nan
        if self.trained is None:
            lists["source"] = np.where(is_personal[user], "personal", "cold_start")
            lists["reasons"] = self._reasons(batch, histories, lists, user)
        else:
            tastes = self.trained.read(batch)
            is_personal |= np.diff(tastes.offsets) > 0
            lists["source"] = np.where(is_personal[user], "personal", "cold_start")
            lists["reasons"] = self._trained(self.trained, tastes, batch, lists, user)
        return lists

    def _trained(
        self, trained: TrainedAds, tastes: Tastes, batch: pd.DataFrame, lists: pd.DataFrame, user: np.ndarray
    ) -> list[list[Reason]]:
        """The reasons of the rows, whose TRAINED columns it fills."""
        ad_ids, types = flatten(batch["shown_ads"])[0][tastes.kept], flatten(batch["shown_types"])[0][tastes.kept]
        reasons: list[list[Reason]] = []
        for place, rows in lists.groupby(user, sort=True):
            items, of_user = self.items.get_indexer(rows["ad_id"]), tastes.of(int(place))
            terms = terms_of(trained, tastes, int(place), items)
            wide = [kernel_group(name) in (COLUMNS, GROUPS) for name in terms.parts]
            terms.behaviours[:, wide] = set_off(terms.behaviours[:, wide])
            log_odds = rows["log_odds"].to_numpy(dtype=np.float64)
            found = trained.probabilities(log_odds, items, terms.taste, level=tastes.level[int(place)])
            value = found.value(self.pricing, self.price[items])
            lists.loc[rows.index, list(TRAINED)] = np.column_stack([*found, value])
            reasons += list_reasons(
                terms.behaviours, ad_ids[of_user], types[of_user], terms.parts, log_odds, 1.0, terms.features, ALWAYS
            )
        return reasons

    def _reasons(
        self, batch: pd.DataFrame, histories: Histories, lists: pd.DataFrame, user: np.ndarray
    ) -> list[list[Reason]]:
        ad_ids, _ = flatten(batch["ad_ids"])
        types, _ = flatten(batch["event_types"])
        kept_ids, kept_types = ad_ids[histories.kept], types[histories.kept]
        reasons: list[list[Reason]] = []
        for place, rows in lists.groupby(user, sort=True):
            items = self.items.get_indexer(rows["ad_id"])
            of_user = histories.of(int(place))
            pairs = match_pairs(self.catalogue, histories, int(place), items, self.parameters, self.device)
            log_odds = rows["log_odds"].to_numpy(dtype=np.float64)
            reasons += list_reasons(
                pairs.terms, kept_ids[of_user], kept_types[of_user], (*self.fields, KEYWORDS), log_odds, self.scale
            )
        return reasons
