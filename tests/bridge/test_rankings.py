from collections import Counter, defaultdict
from math import log
from typing import NamedTuple

import numpy as np
import pytest
from pyspark.sql import functions as F

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.rankings import ad_groups, group_numbers, matched_ads, rankings
from llmrec_spark.tables import RANKINGS
from tests.bridge.shops import BETA, PAIRS, SIGMA, rounded, shop_of, slow_parts
from tests.model.catalogues import Behaviour, simple_world, unit
from tests.spark.rows import ads_of

LOG_ODDS = f"ln(rate / (1 - rate)) + {BETA} * lift"
MATCHED = "user_id string, ad_id string, match double, background double, rate double, lift double, score double"
RULES = RankingConfig(max_per_user=6, max_per_advertiser=2, max_per_category=3)
UNCAPPED = RankingConfig(max_per_advertiser=None, max_per_category=None, drop_near_duplicates=False)
CLICKED = [Behaviour("a")]
TITLES = ("Trail Shoes", " trail  SHOES", "trail shoes", "Rain Coat", "rain coat", "Tea", "", None)


class Ad(NamedTuple):
    advertiser_id: str | None = None
    category: list[str] | None = None
    title: str | None = None

    def group(self, rule):
        """What a rule counts, None for no group."""
        title = " ".join((self.title or "").split()).casefold()
        twin = (self.advertiser_id, title) if self.advertiser_id and title else None
        return {"advertiser": self.advertiser_id, "category": tuple(self.category or ()) or None, "twin": twin}[rule]


def random_ads(shop, seed=1):
    rng = np.random.default_rng(seed)

    def pick(values):
        return values[rng.integers(len(values))]

    categories = ([], None, ["shoes"], ["shoes", "men"], ["coats"], ["food"])
    return {ad: Ad(pick((None, "x", "y", "z", "w")), pick(categories), pick(TITLES)) for ad in shop.world.live}


def random_matches(shop, seed=2, best=18):
    """The best M of each user with scores of few values, some of them tied to six digits only."""
    rng, rows = np.random.default_rng(seed), []
    for user in shop.slow:
        for ad in rng.choice(sorted(shop.world.live), best, replace=False):
            rate, lift = (
                float(rng.choice([0.1, 0.3])),
                0.0 if shop.is_cold(user) else float(rng.choice([-1.0, 0.0, 2.0])),
            )
            score = log(rate / (1 - rate)) + BETA * lift + float(rng.choice([0.0, 1e-9]))
            rows.append((user, str(ad), None if shop.is_cold(user) else 0.25, 0.1, rate, lift, score))
    return rows


def log_odds_of(row):
    return log(row[4] / (1 - row[4])) + BETA * row[5]


def slow_lists(rows, ads, ranking, excluded=()):
    """ad_ids of each user: greedily from the best, under the rules."""
    caps = [("advertiser", ranking.max_per_advertiser), ("category", ranking.max_per_category)]
    caps += [("twin", 1)] if ranking.drop_near_duplicates else []
    lists = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row[0], -rounded(row[6]), -rounded(log_odds_of(row)), row[1])):
        listed, groups = lists[row[0]], [(rule, ads[row[1]].group(rule), cap) for rule, cap in caps if cap is not None]
        counts = {rule: Counter(ads[ad].group(rule) for ad in listed) for rule, _, _ in groups}
        fits = all(group is None or counts[rule][group] < cap for rule, group, cap in groups)
        if len(listed) < ranking.max_per_user and fits and row[:2] not in excluded:
            listed.append(row[1])
    return {user: listed for user, listed in lists.items() if listed}


def ranked(spark, shop, rows, ads, *, ranking=RULES, excluded=(), sigma=SIGMA, partitions=1):
    """The rows of each user in order of rank."""
    live = ads_of(spark, *[{"ad_id": ad_id} | ad._asdict() for ad_id, ad in ads.items()])
    matched = matched_ads(
        spark.createDataFrame(rows, MATCHED).withColumn("log_odds", F.expr(LOG_ODDS)).repartition(partitions),
        spark.createDataFrame(list(excluded), PAIRS),
        tasks=partitions,
    )
    found = rankings(
        matched,
        shop.histories(spark),
        group_numbers(ad_groups(live).toPandas()),
        shop.figures(sigma=sigma),
        catalogue=shop.folder,
        fields=shop.world.fields,
        match=MatchConfig(),
        ranking=ranking,
        value=ValueConfig(),
        model_version="7",
    )
    contract = {column.name: column.kind for column in RANKINGS.columns if column.name != "run_id"}
    assert set(found.columns) == set(contract)
    of_user = defaultdict(list)
    for row in found.orderBy("user_id", "rank").collect():
        of_user[row.user_id].append(row)
    return dict(of_user)


def lists_of(found):
    return {user: [row.ad_id for row in rows] for user, rows in found.items()}


@pytest.fixture(scope="module")
def excluded(shop):
    """A tenth of the pairs, and everything for u4."""
    rng = np.random.default_rng(5)
    pairs = [(user, ad) for user in shop.slow for ad in sorted(shop.world.live)]
    return [pair for pair in pairs if rng.random() < 0.1 or pair[0] == "u4"]


@pytest.fixture(scope="module")
def rows(shop):
    return random_matches(shop)


@pytest.fixture(scope="module")
def found(spark, shop, rows, excluded):
    """The lists of the random shop under all rules."""
    return ranked(spark, shop, rows, random_ads(shop), excluded=excluded)


def test_lists_are_those_of_a_greedy_twin(shop, rows, found, excluded):
    expected = slow_lists(rows, random_ads(shop), RULES, excluded)
    assert lists_of(found) == expected
    assert {len(listed) for listed in expected.values()} >= {RULES.max_per_user}
    assert "u4" not in found


def test_ranks_count_from_one_and_figures_stay_with_their_ad(rows, found):
    given = {row[:2]: row for row in rows}
    for user, listed in found.items():
        assert [row["rank"] for row in listed] == list(range(1, len(listed) + 1))
        for row in listed:
            one = given[user, row.ad_id]
            assert (row.match, row.rate, row.lift, row.score) == (one[2], one[4], one[5], one[6])
            assert row.log_odds == pytest.approx(log_odds_of(one), abs=1e-12)
            assert row.model_version == "7"
            assert {row.p_click, row.p_conversion, row.expected_value, row.propensity} == {None}


def test_reasons_are_the_largest_parts_of_the_twin_and_add_up(shop, found):
    for user, listed in found.items():
        for row in listed:
            assert sum(one.contribution for one in row.reasons) == pytest.approx(row.log_odds, abs=1e-6)
            assert row.reasons[-1][:3] == (None, None, "other")
            stored = {one[:3]: one.contribution for one in row.reasons[:-1]}
            parts = slow_parts(shop, user, row.ad_id, scale=BETA / SIGMA)
            assert len(stored) == len(row.reasons) - 1 == min(len(parts), 5)
            assert stored == pytest.approx({name: parts[name] for name in stored}, abs=1e-5)
            largest = sorted(map(abs, parts.values()), reverse=True)[:5]
            assert [abs(part) for part in stored.values()] == pytest.approx(largest, abs=1e-5)


def test_users_without_a_usable_history_are_cold_and_have_no_reason_but_other(shop, found):
    for user, listed in found.items():
        assert {row.source for row in listed} == {"cold_start" if shop.is_cold(user) else "personal"}
        if shop.is_cold(user):
            assert {tuple(one.field for one in row.reasons) for row in listed} == {("other",)}
    assert {"u0", "u1"} <= set(found)


def test_partitions_change_no_list(spark, shop, rows, found, excluded):
    again = ranked(spark, shop, rows[::-1], random_ads(shop), excluded=excluded, partitions=4)
    assert lists_of(again) == lists_of(found)


@pytest.fixture
def alike(tmp_path):
    """Ads a to e, all alike, and two users: one clicked, one is new."""
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abcde"})
    return shop_of(tmp_path, world, [CLICKED, None])


def equal_rows(*users):
    return [(user, ad, 0.5, 0.1, 0.5, 1.0, 0.35) for user in users for ad in "ebdca"]


def test_ads_of_one_title_and_advertiser_are_listed_once_and_ties_go_by_id(spark, alike):
    ads = {
        "a": Ad("x", title="Trail Shoes"),
        "b": Ad("x", title=" trail  SHOES"),
        "c": Ad("y", title="Trail Shoes"),
        "d": Ad(None, title="Trail Shoes"),
        "e": Ad(None, title="Trail Shoes"),
    }
    assert lists_of(ranked(spark, alike, equal_rows("u0"), ads)) == {"u0": list("acde")}
    assert lists_of(ranked(spark, alike, equal_rows("u0"), ads, ranking=UNCAPPED)) == {"u0": list("abcde")}


def test_ads_of_no_advertiser_or_category_are_not_capped(spark, alike):
    ranking = RankingConfig(max_per_advertiser=1, max_per_category=1)
    ads = {ad: Ad() for ad in "abc"} | {ad: Ad("x", ["shoes"]) for ad in "de"}
    found = lists_of(ranked(spark, alike, equal_rows("u0", "u1"), ads, ranking=ranking))
    assert found == {"u0": list("abcd"), "u1": list("abcd")}


@pytest.mark.parametrize("sigma", [None, 0.9e-6])
def test_without_a_spread_a_personal_list_has_no_reason_but_other(spark, alike, sigma):
    [row, *_] = ranked(spark, alike, equal_rows("u0"), {ad: Ad() for ad in "abcde"}, sigma=sigma)["u0"]
    assert [(one.field, one.contribution) for one in row.reasons] == [("other", pytest.approx(row.log_odds))]
    assert row.source == "personal"


def test_no_match_gives_no_list(spark, alike):
    assert ranked(spark, alike, [], {"a": Ad()}) == {}
