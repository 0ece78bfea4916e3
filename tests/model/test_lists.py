import numpy as np
import pandas as pd
import pytest

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.model.lists import ListMaker
from llmrec_spark.model.reasons import KEYWORDS
from tests.model.catalogues import FIELDS, Behaviour, history_rows, random_histories, random_world, simple_world, unit

SIGMA = 0.07
UNCAPPED = {"max_per_advertiser": None, "max_per_category": None, "drop_near_duplicates": False}
GROUPS = ("advertiser", "category", "duplicate")
CLICKED = [Behaviour("a")]


@pytest.fixture
def shop():
    """Ads a to e, all alike."""
    return simple_world({ad: {"title": unit(1, 2)} for ad in "abcde"})


def ranked(world, tmp_path, users, ads, *, sigma=SIGMA, scores=None, log_odds=None, **rules):
    """The lists of users with these ads. An ad is (ad_id, number of its group by cap); scores: by default falling."""
    rows = history_rows(users)

    def column(value):
        return pd.Series([None if of_user is None else value(of_user) for of_user in ads], dtype=object)

    rows["listed"] = column(lambda of_user: [ad for ad, _ in of_user])
    rows["score"] = column(lambda of_user: scores or [-float(place) for place in range(len(of_user))])
    for place, name in enumerate(("log_odds", "match", "rate", "lift")):
        rows[name] = column(lambda of_user, place=place: [ord(ad[0]) + 0.1 * place for ad, _ in of_user])
    if log_odds:
        rows["log_odds"] = column(lambda of_user: log_odds)
    groups = {ad: groups for of_user in ads for ad, groups in of_user or ()}
    of_live = [[groups.get(ad, {}).get(name, -1) for name in GROUPS] for ad in sorted(world.live)]
    ranking = RankingConfig(**{**UNCAPPED, **rules})
    figures = pd.DataFrame({"sigma": np.nan if sigma is None else sigma, "price": 1.0}, index=range(len(of_live)))
    folder = world.opened(tmp_path)[0]
    make = ListMaker(folder, world.fields, np.array(of_live), figures, MatchConfig(), ranking, ValueConfig(), "cpu")
    return make(rows)


def plain(ads):
    return [(ad, {}) for ad in ads]


def grouped(name, **groups):
    """One ad for each keyword, in this group of cap `name`."""
    return [(ad, {name: group}) for ad, group in groups.items()]


def lists_of(found):
    return found.groupby("user_id")["ad_id"].agg(list).to_dict()


def test_ads_are_ordered_by_score_and_ranks_count_from_one(shop, tmp_path):
    found = ranked(shop, tmp_path, [CLICKED, None], [plain("cab"), plain("de")])
    assert found["ad_id"].tolist() == ["c", "a", "b", "d", "e"]
    assert found["rank"].tolist() == [1, 2, 3, 1, 2]


def test_equal_scores_are_ordered_by_log_odds_and_then_by_id(shop, tmp_path):
    found = ranked(shop, tmp_path, [None], [plain("abcdd")], scores=[0.5, 2.0, 0.12345649, 0.123456, 0.123456])
    assert found["ad_id"].tolist() == ["b", "a", "d", "d", "c"]  # log_odds rises with the letter
    close = ranked(shop, tmp_path, [None], [plain("ba")], scores=[1.0, 1.0], log_odds=[0.12345649, 0.123456])
    assert close["ad_id"].tolist() == ["a", "b"]  # log_odds too are equal to six digits
    twins = simple_world({ad: {"title": unit(1, 2)} for ad in ("ea", "eb")})
    tied = ranked(twins, tmp_path, [None], [[("eb", {}), ("ea", {})]], scores=[1.0, 1.0])
    assert tied["ad_id"].tolist() == ["ea", "eb"]


def test_a_list_ends_at_its_length(shop, tmp_path):
    assert lists_of(ranked(shop, tmp_path, [None], [plain("abcde")], max_per_user=2)) == {"u0": ["a", "b"]}


def test_each_row_keeps_the_figures_of_its_ad(shop, tmp_path):
    found = ranked(shop, tmp_path, [None, None], [grouped("category", a=0, b=0, c=1), []], max_per_category=1)
    np.testing.assert_allclose(found.loc[1, ["score", "log_odds", "match", "rate", "lift"]].astype(float), [
        -2.0, 99.0, 99.1, 99.2, 99.3,
    ])  # fmt: skip


@pytest.mark.parametrize(
    "cap, rule",
    [
        ("advertiser", {"max_per_advertiser": 1}),
        ("category", {"max_per_category": 1}),
        ("duplicate", {"drop_near_duplicates": True}),
    ],
)
def test_a_rule_caps_its_group(shop, tmp_path, cap, rule):
    ads = grouped(cap, a=0, b=1, c=0, d=1, e=2)
    assert lists_of(ranked(shop, tmp_path, [None], [ads], **rule)) == {"u0": ["a", "b", "e"]}


@pytest.mark.parametrize("cap", ["advertiser", "category", "duplicate"])
def test_ads_of_no_group_are_not_capped(shop, tmp_path, cap):
    ads = grouped(cap, a=-1, b=-1, c=0)
    rules = {"max_per_advertiser": 1, "max_per_category": 1, "drop_near_duplicates": True}
    assert lists_of(ranked(shop, tmp_path, [None], [ads], **rules)) == {"u0": ["a", "b", "c"]}


def test_without_rules_no_group_is_capped(shop, tmp_path):
    every = {"advertiser": 0, "category": 0, "duplicate": 0}
    assert lists_of(ranked(shop, tmp_path, [None], [[(ad, every) for ad in "abcde"]])) == {"u0": list("abcde")}


def test_a_group_of_one_user_is_not_counted_for_another(shop, tmp_path):
    ads = [grouped("category", a=0), grouped("category", b=0)]
    assert lists_of(ranked(shop, tmp_path, [None, None], ads, max_per_category=1)) == {"u0": ["a"], "u1": ["b"]}


def test_the_source_says_who_has_a_usable_history(shop, tmp_path):
    users = [CLICKED, None, [], [Behaviour("unknown")]]
    found = ranked(shop, tmp_path, users, [plain("b")] * 4)
    assert found["source"].tolist() == ["personal", "cold_start", "cold_start", "cold_start"]


def test_reasons_add_up_to_the_log_odds_of_their_row(tmp_path):
    world = random_world(1)
    users = random_histories(1, world)
    found = ranked(world, tmp_path, users, [plain(sorted(world.live))] * len(users))
    totals = [sum(reason.contribution for reason in reasons) for reasons in found["reasons"]]
    np.testing.assert_allclose(totals, found["log_odds"], rtol=0, atol=1e-9)


def test_reasons_come_from_the_history_of_their_own_user(tmp_path):
    world = random_world(2)
    users = random_histories(2, world)
    found = ranked(world, tmp_path, users, [plain(sorted(world.live))] * len(users))
    for user, reasons in zip(found["user_id"], found["reasons"], strict=True):
        of_user = {(event.ad_id, event.event_type) for event in users[int(user[1:])] or []}
        assert {reason[:2] for reason in reasons[:-1]} <= of_user
        assert {reason.field for reason in reasons[:-1]} <= {*FIELDS, KEYWORDS}


def test_a_reason_is_beta_over_sigma_times_its_part_of_the_match(shop, tmp_path):
    [reasons] = ranked(shop, tmp_path, [CLICKED], [plain("b")])["reasons"]
    assert reasons[0][:3] == ("a", "click", "title")
    assert reasons[0].contribution == pytest.approx(0.35 / SIGMA * 0.6, abs=1e-6)  # 1 - lambda is .6, the cosine 1


def test_events_that_are_left_out_shift_no_reason(shop, tmp_path):
    history = [Behaviour("unknown", event_type="cart"), Behaviour("c", event_type="view")]
    [reasons] = ranked(shop, tmp_path, [history], [plain("b")])["reasons"]
    assert reasons[0][:2] == ("c", "view")


def test_a_search_is_named_without_an_ad(tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}}, queries={"q": []})
    world.vectors["q"] = unit(1, 2)
    [reasons] = ranked(world, tmp_path, [[Behaviour(None, "q", event_type="search")]], [plain("a")])["reasons"]
    assert reasons[0][:3] == (None, "search", "title")


@pytest.mark.parametrize("sigma", [None, 0.0, 0.9e-6])
def test_a_spread_that_says_nothing_gives_no_reason_but_other(shop, tmp_path, sigma):
    [reasons] = ranked(shop, tmp_path, [CLICKED], [plain("b")], sigma=sigma)["reasons"]
    assert [reason.field for reason in reasons] == ["other"]


def test_a_cold_user_has_no_reason_but_other(shop, tmp_path):
    [reasons] = ranked(shop, tmp_path, [None], [plain("b")])["reasons"]
    assert [reason[:3] for reason in reasons] == [(None, None, "other")]


def test_an_ad_without_text_has_no_reason_but_other(tmp_path):
    world = simple_world({"a": {"title": unit(1, 2)}, "b": {}})
    [reasons] = ranked(world, tmp_path, [CLICKED], [plain("b")])["reasons"]
    assert [reason.field for reason in reasons] == ["other"]


@pytest.mark.parametrize("ads", [[None], [[]]])
def test_a_user_without_ads_has_no_list(shop, tmp_path, ads):
    assert ranked(shop, tmp_path, [CLICKED], ads).empty


def test_a_user_without_ads_shifts_nobody_else(shop, tmp_path):
    found = ranked(shop, tmp_path, [None, CLICKED, CLICKED], [plain("a"), [], plain("bc")])
    assert lists_of(found) == {"u0": ["a"], "u2": ["b", "c"]}
    assert found["source"].tolist() == ["cold_start", "personal", "personal"]
