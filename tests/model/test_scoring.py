from math import ceil

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.scoring import LiveAds, score_block, score_candidates
from tests.model.catalogues import Behaviour, history_rows, random_histories, random_world, simple_world, unit

FORMS = {"attention": MatchConfig(block_ads=3), "uniform": MatchConfig(form="uniform", block_ads=3)}
forms = pytest.mark.parametrize("match", FORMS.values(), ids=FORMS)


def live_ads(world, match, tmp_path, *, seed=0, device="cpu"):
    """The live ads with random figures; an ad without text has no background."""
    rng = np.random.default_rng(seed)
    ads = sorted(world.live)
    background = [rng.normal() if world.ads[ad] else np.nan for ad in ads]
    figures = {"rate": rng.uniform(0.01, 0.3, len(ads)), "background": background, "sigma": 0.2, "price": 1.0}
    return LiveAds(world.opened(tmp_path)[0], pd.DataFrame(figures), match, device)


def requests(users, *, candidates=None, excluded=None):
    rows = history_rows(users)
    rows["candidates"] = pd.Series(candidates or [None] * len(users), dtype=object)
    rows["excluded"] = pd.Series(excluded or [None] * len(users), dtype=object)
    return rows


def all_blocks(live, rows, keep=None):
    blocks = range(ceil(len(live.index) / live.match.block_ads))
    return pd.concat([score_block(live, rows, block, keep) for block in blocks], ignore_index=True)


def in_order(found):
    return found.sort_values(["user_id", "ad_id"], ignore_index=True)


@forms
@pytest.mark.parametrize("seed", range(3))
def test_blocks_and_single_candidates_get_the_same_scores(seed, match, tmp_path):
    rng = np.random.default_rng(seed)
    world = random_world(seed)
    users = random_histories(seed, world)
    given = [sorted(rng.choice(world.live, rng.integers(0, 6), replace=False).tolist()) for _ in users]
    live, rows = live_ads(world, match, tmp_path), requests(users, candidates=given)
    tables, pairs = in_order(all_blocks(live, rows)), in_order(score_candidates(live, rows))
    assert tables[["user_id", "ad_id"]].equals(pairs[["user_id", "ad_id"]])
    numbers = ["match", "background", "rate", "lift", "score"]
    np.testing.assert_allclose(tables[numbers], pairs[numbers], rtol=0, atol=1e-5)


@forms
def test_the_best_of_the_blocks_hold_the_best_of_all(match, tmp_path):
    world = random_world(4, ads=20)
    users = random_histories(4, world)
    live = live_ads(world, match, tmp_path)
    everything = all_blocks(live, requests(users, candidates=[sorted(world.live)] * len(users)))
    best = everything.dropna(subset="score").sort_values(["user_id", "score"]).groupby("user_id").tail(2)
    kept = all_blocks(live, requests(users), keep=2)
    assert set(zip(best["user_id"], best["ad_id"], strict=True)) <= set(
        zip(kept["user_id"], kept["ad_id"], strict=True)
    )


def test_a_block_keeps_so_many_of_each_user(tmp_path):
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abcd"})
    live = live_ads(world, MatchConfig(block_ads=4), tmp_path)
    found = score_block(live, requests([[Behaviour("a")], None]), 0, 3)
    assert found.groupby("user_id").size().to_dict() == {"u0": 3, "u1": 3}


def test_an_excluded_ad_is_not_kept_for_that_user(tmp_path):
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abcd"})
    live = live_ads(world, MatchConfig(block_ads=2), tmp_path)
    found = all_blocks(live, requests([None, None], excluded=[["d", "a", "not live"], []]), keep=4)
    assert found.groupby("user_id")["ad_id"].agg(sorted).to_dict() == {"u0": ["b", "c"], "u1": ["a", "b", "c", "d"]}


def test_a_block_scores_none_of_the_candidates_of_other_blocks(tmp_path):
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abcd"})
    live = live_ads(world, MatchConfig(block_ads=2), tmp_path)
    rows = requests([None, None], candidates=[["a", "d", "not live"], []])
    assert [score_block(live, rows, block, None)["ad_id"].tolist() for block in (0, 1)] == [["a"], ["d"]]


@forms
def test_a_cold_user_is_scored_by_rate_alone(match, tmp_path):
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abcd"})
    live = live_ads(world, match, tmp_path)
    found = in_order(all_blocks(live, requests([None]), keep=4))
    np.testing.assert_allclose(found["score"], np.log(live.rate / (1 - live.rate)))


@pytest.mark.parametrize("block_ads", [1, 2])
def test_the_uniform_form_scores_no_ad_without_text_whatever_its_block(block_ads, tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}, "b": {}})
    live = live_ads(world, MatchConfig(form="uniform", block_ads=block_ads), tmp_path)
    assert all_blocks(live, requests([[Behaviour("a")]]), keep=2)["ad_id"].tolist() == ["a"]


def test_the_uniform_form_scores_a_list_of_ads_without_text_as_no_list(tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}, "b": {}})
    live = live_ads(world, FORMS["uniform"], tmp_path)
    assert score_candidates(live, requests([[Behaviour("a")]], candidates=[["b"]]))["score"].isna().all()


def test_an_ad_without_text_has_the_score_of_its_rate(tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}, "b": {}})
    live = live_ads(world, FORMS["attention"], tmp_path)
    found = in_order(all_blocks(live, requests([[Behaviour("a")]]), keep=2))
    assert found["match"].isna().tolist() == [False, True]
    assert found["lift"][1] == 0.0
    assert found["score"][1] == pytest.approx(np.log(live.rate[1] / (1 - live.rate[1])))


def test_no_live_ad_scores_nothing(tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}}, live=[])
    live = live_ads(world, FORMS["attention"], tmp_path)
    assert score_block(live, requests([[Behaviour("a")], None]), 0, 5).empty
