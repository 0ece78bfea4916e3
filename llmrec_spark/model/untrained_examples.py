"""What the untrained score says of examples: the match of their lists' histories, its background, its lift."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil, log

import numpy as np
import pandas as pd

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.behaviour_encoder import encode_histories, flatten
from llmrec_spark.model.catalogue import open_catalogue
from llmrec_spark.model.match import Parameters, block_tables, match_block
from llmrec_spark.model.ranker import AdFigures, untrained_scores

US_PER_DAY = 86_400e6


def untrained_log_odds(
    folder: str,
    histories: pd.DataFrame,
    owner: np.ndarray,
    item: np.ndarray,
    rate: np.ndarray,
    *,
    match: MatchConfig,
    weights: Mapping[str, float],
    device: str = "cpu",
) -> np.ndarray:
    """log_odds of n pairs of a list and an ad, (n,): list `owner`, catalogue's item `item`, `rate` of the ad.

    folder     of a catalogue whose live ads are compared with
    histories  one row per list, as training_sample has them; the first match.background_users of them with a history
               make background and sigma
    weights    events.weights
    """
    catalogue, parameters = open_catalogue(folder), Parameters.of(match)
    known = histories[[len(one) > 0 for one in histories["ad_ids"]]]
    encoded = encode_histories(with_log_priors(known, weights, match.half_life_days), catalogue)
    row = np.full(len(histories), -1)
    row[known.index] = np.arange(len(known))
    of_pair, live = row[owner], pd.Index(catalogue.live).get_indexer(item)
    matched, background = np.full(len(item), np.nan), np.full(len(catalogue.live), np.nan)
    squares, pairs = 0.0, 0
    for block in range(ceil(len(catalogue.live) / match.block_ads)):
        ads = np.arange(block * match.block_ads, min((block + 1) * match.block_ads, len(catalogue.live)))
        has_text = (catalogue.fields[catalogue.live[ads]] >= 0).any(axis=1)
        tables = block_tables(folder, block, match.block_ads, parameters, device)
        found = match_block(tables, encoded, has_text, parameters)  # (lists, B)
        inside = np.flatnonzero((of_pair >= 0) & (live >= ads[0]) & (live <= ads[-1]))
        matched[inside] = found[of_pair[inside], live[inside] - ads[0]]
        people = found[: match.background_users]
        people = people[np.isfinite(people).any(axis=1)]
        if len(people):
            background[ads] = people.mean(axis=0)
            squares += float(np.nansum((people - background[ads]) ** 2))
            pairs += int(np.isfinite(people).sum())
    sigma = (squares / pairs) ** 0.5 if pairs else float("nan")
    figures = AdFigures(rate, background[live], sigma)
    scores = untrained_scores(matched[None, :], figures, beta=match.beta, by_match=np.zeros(1, dtype=bool))
    return np.asarray(scores.log_odds[0])


def with_log_priors(
    histories: pd.DataFrame, weights: Mapping[str, float], half_life_days: float | None
) -> pd.DataFrame:
    """`histories` with log_priors at 00:00 UTC of their run_date, as sequences.histories has them."""
    kinds, lengths = flatten(histories["event_types"])
    happened = flatten(histories["event_ts"])[0].astype(np.float64)
    day = np.repeat(histories["run_date"].to_numpy(dtype="M8[us]").astype(np.float64), lengths)
    decay = 0.0 if half_life_days is None else log(2.0) / half_life_days / US_PER_DAY
    log_weight = {kind: log(weight) for kind, weight in weights.items() if weight > 0}
    priors = np.array([log_weight[kind] for kind in kinds]) - (day - happened) * decay
    return histories.assign(log_priors=np.split(priors, np.cumsum(lengths)[:-1]) if len(histories) else [])
