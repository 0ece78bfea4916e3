from collections import Counter, defaultdict
from math import log

import numpy as np
import pytest

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.matches import match_requests, matches
from tests.bridge.shops import PAIRS, shop_of
from tests.model.catalogues import Behaviour, simple_world, unit

FOUR_BLOCKS = MatchConfig(block_ads=7)
ONE_BLOCK = MatchConfig(block_ads=1_024)
ALIKE = unit(1, 2)
CLICKED = [Behaviour("a")]


def requests_of(spark, shop, *, excluded=(), given=None):
    return match_requests(
        shop.everyone(spark),
        shop.histories(spark),
        spark.createDataFrame(list(excluded), PAIRS),
        None if given is None else spark.createDataFrame(given, PAIRS),
    )


def matched(spark, shop, figures, match=FOUR_BLOCKS, *, keep=5, tasks=2, direct=False, requests=None, **asked):
    """The rows of each user, best first."""
    asked_for = requests_of(spark, shop, **asked) if requests is None else requests
    unpriced = {"ranking": RankingConfig(), "value": ValueConfig()}
    found = matches(
        asked_for, figures, catalogue=shop.folder, match=match, direct=direct, keep=keep, tasks=tasks, **unpriced
    ).collect()
    of_user = defaultdict(list)
    for row in sorted(found, key=lambda row: (row.user_id, -(row.score or 0.0), row.ad_id)):
        of_user[row.user_id].append(row)
    return dict(of_user)


def ads_of(found):
    return {user: [row.ad_id for row in rows] for user, rows in found.items()}


def some_exclusions(shop):
    """A fifth of all pairs, of cold users too, an ad nobody knows, and everything for u5."""
    rng = np.random.default_rng(8)
    pairs = [(f"u{n}", ad) for n in range(len(shop.users)) for ad in shop.world.live]
    chosen = [pair for pair in pairs if rng.random() < 0.2 or pair[0] == "u5"]
    return [*chosen, ("u3", "unknown"), ("u3", shop.world.behaved[-1]), ("not a user", shop.world.live[0])]


def assert_rows_are(rows, expected, figures):
    """The ads, and their figures to 1e-6 (score: 1e-5)."""
    assert Counter(row.ad_id for row in rows) == Counter(one.ad_id for one in expected)
    of_ad = figures.set_index("ad_id")
    for row in rows:
        [one] = [one for one in expected if one.ad_id == row.ad_id]
        background = of_ad.loc[row.ad_id, "background"]
        assert row.match == (None if np.isnan(one.match) else pytest.approx(one.match, abs=1e-6))
        assert row.background == (None if np.isnan(background) else background)
        assert row.rate == of_ad.loc[row.ad_id, "rate"]
        assert (row.lift, row.score) == (pytest.approx(one.lift, abs=2e-5), pytest.approx(one.score, abs=1e-5))


@pytest.mark.parametrize(
    ("match", "tasks", "partitions"), [(FOUR_BLOCKS, 2, 1), (FOUR_BLOCKS, 1, 5), (FOUR_BLOCKS, 5, 3), (ONE_BLOCK, 5, 1)]
)
def test_the_best_of_each_user_are_those_of_the_twin_without_exclusions(spark, shop, match, tasks, partitions):
    excluded, figures = some_exclusions(shop), shop.figures()
    requests = requests_of(spark, shop, excluded=excluded).orderBy("log_priors", "user_id").repartition(partitions)
    found = matched(spark, shop, figures, match, tasks=tasks, requests=requests)
    for user, ordered in shop.expected(figures).items():
        allowed = [one for one in ordered if (user, one.ad_id) not in excluded]
        assert_rows_are(found.get(user, []), allowed[:5], figures)
    assert "u5" not in found
    assert set(found) <= set(shop.slow)


def test_every_ad_is_kept_where_more_are_asked_for_than_live(spark, shop):
    figures = shop.figures()
    found = matched(spark, shop, figures, keep=100)
    for user, ordered in shop.expected(figures).items():
        assert_rows_are(found[user], ordered, figures)


@pytest.mark.parametrize("form", ["attention", "uniform"])
def test_without_a_usable_history_ads_are_kept_by_rate_then_by_id(spark, shop, form):
    figures = shop.figures()
    by_rate = figures.sort_values(["rate", "ad_id"], ascending=[False, True])["ad_id"].tolist()
    found = matched(spark, shop, figures, MatchConfig(block_ads=7, form=form), keep=12)
    for user in ("u0", "u1"):
        assert sorted(row.ad_id for row in found[user]) == sorted(by_rate[:12])
        assert {(row.match, row.lift) for row in found[user]} == {(None, 0.0)}


@pytest.mark.parametrize(("match", "direct"), [(FOUR_BLOCKS, False), (FOUR_BLOCKS, True), (ONE_BLOCK, False)])
def test_every_given_pair_is_scored_and_nothing_else(spark, shop, match, direct):
    figures, rng = shop.figures(), np.random.default_rng(4)
    pairs = [(f"u{n}", ad) for n in range(len(shop.users)) for ad in shop.world.live if rng.random() < 0.3]
    pairs += [("u0", "ad000"), ("u9", "ad000")]  # an ad without text
    others = [*pairs[:3], ("not a user", pairs[0][1])]
    requests = requests_of(spark, shop, given=pairs + others, excluded=pairs[:20])
    found = matched(spark, shop, figures, match, keep=None, direct=direct, requests=requests)
    assert sum(map(len, found.values())) == len(set(pairs))
    for user, ordered in shop.expected(figures).items():
        assert_rows_are(found.get(user, []), [one for one in ordered if (user, one.ad_id) in pairs], figures)


def test_the_uniform_form_keeps_the_best_by_match(spark, shop):
    figures = shop.figures()
    found = matched(spark, shop, figures, MatchConfig(block_ads=7, form="uniform"), keep=6)
    for user, ordered in shop.expected(figures, uniform=True).items():
        assert_rows_are(found[user], ordered[:6], figures)


@pytest.mark.parametrize("direct", [True, False])
def test_the_uniform_form_has_no_score_for_an_ad_without_text(spark, shop, direct):
    match, given = MatchConfig(block_ads=7, form="uniform"), [("u2", "ad000"), ("u2", "ad003")]
    rows = matched(spark, shop, shop.figures(), match, keep=None, direct=direct, given=given)["u2"]
    [without] = [row for row in rows if row.ad_id == "ad000"]
    assert len(rows) == 2
    assert (without.match, without.lift, without.score) == (None, 0.0, None)


@pytest.mark.parametrize("sigma", [None, 0.9e-6])
def test_a_spread_that_says_nothing_gives_no_lift(spark, shop, sigma):
    figures = shop.figures(sigma=sigma)
    found = matched(spark, shop, figures)
    for user, ordered in shop.expected(figures).items():
        assert_rows_are(found[user], ordered[:5], figures)
        assert {row.lift for row in found[user]} == {0.0}


@pytest.mark.parametrize("block_ads", [2, 1_024])
def test_ties_to_six_digits_are_kept_by_id_across_blocks(spark, tmp_path, block_ads):
    shop = shop_of(tmp_path, simple_world({ad: {"title": ALIKE} for ad in "abcd"}), [CLICKED, None])
    figures = shop.figures()
    figures["background"], figures["rate"] = 0.5, [0.2, 0.2 + 1e-9, 0.2 + 3e-9, 0.2 + 2e-9]
    found = matched(spark, shop, figures, MatchConfig(block_ads=block_ads), keep=2)
    assert {user: sorted(ads) for user, ads in ads_of(found).items()} == {"u0": ["a", "b"], "u1": ["a", "b"]}


def test_equal_matches_of_the_uniform_form_are_kept_by_log_odds(spark, tmp_path):
    shop = shop_of(tmp_path, simple_world({ad: {"title": ALIKE} for ad in "abcd"}), [CLICKED])
    figures = shop.figures()
    figures["background"], figures["rate"] = 0.5, [0.1, 0.4, 0.2, 0.4]
    found = matched(spark, shop, figures, MatchConfig(block_ads=1, form="uniform"), keep=3)
    assert sorted(ads_of(found)["u0"]) == ["b", "c", "d"]


@pytest.mark.parametrize("direct", [True, False])
def test_one_live_ad(spark, tmp_path, direct):
    world = simple_world({"a": {"title": ALIKE}, "b": {"title": unit(2, 1)}}, live=["b"])
    shop = shop_of(tmp_path, world, [CLICKED, None])
    figures = shop.figures()
    given = [("u0", "b"), ("u1", "b")] if direct else None
    found = matched(spark, shop, figures, keep=None if direct else 5, direct=direct, given=given)
    assert ads_of(found) == {"u0": ["b"], "u1": ["b"]}
    assert (found["u0"][0].match, found["u1"][0].match) == (pytest.approx(0.6 * 0.8, abs=1e-6), None)


@pytest.mark.parametrize("direct", [True, False])
def test_where_nobody_has_a_history_rates_decide(spark, tmp_path, direct):
    world = simple_world({ad: {"title": ALIKE} for ad in "abc"}, behaved=[])
    shop = shop_of(tmp_path, world, [None, None])
    figures = shop.figures(sigma=None)
    figures["background"], figures["rate"] = np.nan, [0.1, 0.2, 0.3]
    given = [(user, ad) for user in ("u0", "u1") for ad in "abc"] if direct else None
    match, keep = MatchConfig(block_ads=2), None if direct else 2
    found = matched(spark, shop, figures, match, keep=keep, direct=direct, given=given)
    for rows in found.values():
        assert [row.ad_id for row in rows] == (["c", "b", "a"] if direct else ["c", "b"])
        assert rows[0].score == pytest.approx(log(0.3 / 0.7))
        assert {(row.match, row.background, row.lift) for row in rows} == {(None, None, 0.0)}
    assert set(found) == {"u0", "u1"}


@pytest.mark.parametrize("direct", [True, False])
def test_where_no_ad_has_a_text_rates_decide(spark, tmp_path, direct):
    shop = shop_of(tmp_path, simple_world({"a": {}, "b": {}}), [CLICKED])
    given = [("u0", "a"), ("u0", "b")] if direct else None
    found = matched(spark, shop, shop.figures(), keep=None if direct else 2, direct=direct, given=given)
    assert {(row.match, row.lift) for row in found["u0"]} == {(None, 0.0)}
    assert len(found["u0"]) == 2


def test_no_request_has_no_row(spark, shop):
    nobody = requests_of(spark, shop).limit(0)
    assert matched(spark, shop, shop.figures(), requests=nobody) == {}
