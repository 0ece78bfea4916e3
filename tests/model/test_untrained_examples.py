"""The untrained score of examples is that of the daily job on the same histories."""

from datetime import date

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.behaviour_encoder import encode_histories
from llmrec_spark.model.match import Parameters, block_tables, match_block
from llmrec_spark.model.ranker import AdFigures, untrained_scores
from llmrec_spark.model.untrained_examples import untrained_log_odds, with_log_priors
from tests.model.catalogues import Behaviour, random_histories, random_world

WEIGHTS = {"click": 1.0, "cart": 2.0, "search": 1.0, "impression": 0.0}
DAY = pd.Timestamp(date(2026, 3, 1))
US_PER_DAY = 86_400_000_000


def histories(users):
    """As training_sample has them: behaviours one day old, the next two days, ..."""
    midnight = int(DAY.value // 1000)
    return pd.DataFrame(
        {
            "run_date": DAY,
            "ad_ids": [[one.ad_id for one in user or []] for user in users],
            "query_hashes": [[one.query for one in user or []] for user in users],
            "event_types": [["cart" if n % 2 else "click" for n in range(len(user or []))] for user in users],
            "event_ts": [[midnight - (n + 1) * US_PER_DAY for n in range(len(user or []))] for user in users],
        }
    )


def test_a_prior_is_the_weight_of_the_type_and_halves_with_the_half_life():
    [found] = with_log_priors(histories([[Behaviour("a"), Behaviour("b")]]), WEIGHTS, 2.0)["log_priors"]
    np.testing.assert_allclose(np.exp(found), [2.0**-0.5, 2.0 * 2.0**-1.0])


@pytest.mark.parametrize("block_ads", [4, 1_000])
def test_blocks_change_nothing_and_the_formula_is_that_of_the_run(tmp_path, block_ads):
    world = random_world(3, ads=15)
    folder, catalogue = world.opened(tmp_path)
    rows = histories(random_histories(3, world, users=9))
    match = MatchConfig(block_ads=block_ads, background_users=5)
    rng = np.random.default_rng(1)
    owner, place = rng.integers(0, len(rows), 60), rng.integers(0, len(catalogue.live), 60)
    item, rate = np.asarray(catalogue.live)[place], rng.uniform(0.01, 0.4, 60)
    found = untrained_log_odds(folder, rows, owner, item, rate, match=match, weights=WEIGHTS)
    known = rows[[len(one) > 0 for one in rows["ad_ids"]]]
    parameters = Parameters.of(match)
    encoded = encode_histories(with_log_priors(known, WEIGHTS, match.half_life_days), catalogue)
    has_text = (catalogue.fields[catalogue.live] >= 0).any(axis=1)
    every = match_block(block_tables(folder, 0, 1_000, parameters, "cpu"), encoded, has_text, parameters)
    people = every[:5][np.isfinite(every[:5]).any(axis=1)]
    background = people.mean(axis=0)
    sigma = np.sqrt(np.nanmean((people - background) ** 2))
    matched = np.full((len(rows), len(catalogue.live)), np.nan)
    matched[known.index] = every
    figures = AdFigures(rate, background[place], float(sigma))
    expected = untrained_scores(matched[owner, place][None, :], figures, beta=match.beta, by_match=np.zeros(1, bool))
    np.testing.assert_allclose(found, expected.log_odds[0], atol=1e-6)


def test_nobody_with_a_history_leaves_the_rates(tmp_path):
    folder, catalogue = random_world(1).opened(tmp_path)
    found = untrained_log_odds(
        folder,
        histories([None, None]),
        np.array([0, 1]),
        np.asarray(catalogue.live)[:2],
        np.array([0.1, 0.5]),
        match=MatchConfig(),
        weights=WEIGHTS,
    )
    np.testing.assert_allclose(found, np.log([0.1 / 0.9, 1.0]))
