import importlib
import re
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
sys.path.insert(0, str(SAMPLE))
simulator = importlib.import_module("simulator")
days = importlib.import_module("simulated_days")
worlds = importlib.import_module("simulated_world")

FIRST, LAST, TODAY = date(2026, 1, 30), date(2026, 2, 28), pd.Timestamp("2026-03-01T00:00:00Z")


@pytest.fixture(scope="module")
def ads():
    return simulator.load_ads(SAMPLE / "ads.jsonl")


@pytest.fixture(scope="module")
def log(ads):
    return simulator.simulate_log(ads)


@pytest.fixture(scope="module")
def world(ads):
    return simulator.make_world(ads, simulator.SEED)


@pytest.fixture(scope="module")
def clean(world):
    """The clean events of the 30 days and the day after."""
    return simulator.simulate(world, FIRST, date(2026, 3, 1))


@pytest.fixture(scope="module")
def month(clean):
    """Those of the 30 days."""
    return clean[clean["event_ts"] < TODAY].reset_index(drop=True)


@pytest.fixture(scope="module")
def impressions(month, world):
    """The impressions with their day, the ad's and the person's language, whether clicked, and the true p_click."""
    shown = of_type(month, "impression")
    clicks = of_type(month, "click").dropna(subset=["request_id"])[["request_id", "ad_id"]].assign(clicked=1)
    shown = shown.merge(clicks, how="left", on=["request_id", "ad_id"], validate="one_to_one")
    shown = shown.merge(world.people[["user_id", "language"]], how="left", on="user_id", validate="many_to_one")
    shown = shown.merge(world.ads[["ad_id", "category", "language"]], how="left", on="ad_id", suffixes=("", "_of_ad"))
    shown = shown.assign(clicked=shown["clicked"].fillna(0), day=shown["event_ts"].dt.date)
    parts = [part.assign(p_click=p_click(world, day, part)) for day, part in shown.groupby("day")]
    return pd.concat(parts, ignore_index=True)


def of_type(events, event_type):
    return events[events["event_type"] == event_type]


def p_click(world, day, pairs):
    return simulator.true_probabilities(world, day, list(pairs["user_id"]), list(pairs["ad_id"]))[0]


def ndcg_at_10(shown, score):
    """Mean over the requests with a click; every list is at most 10 long, ties are broken by ad_id."""
    shown = shown.assign(score=score).sort_values(["request_id", "score", "ad_id"], ascending=[True, False, True])
    rank = shown.groupby("request_id").cumcount()
    gain = (shown["clicked"] / np.log2(rank + 2)).groupby(shown["request_id"]).sum()
    clicks = shown.groupby("request_id")["clicked"].sum()
    best = clicks.map(lambda count: sum(1 / np.log2(place + 2) for place in range(int(count))))
    return float((gain / best)[clicks > 0].mean())


def few_ads():
    lines = [
        ("a1", "Trail running shoes", ["running shoes", "trail"], "Sport", None, None, "en"),
        ("a2", "跑鞋 透气", ["跑鞋", "透气"], "Sport", None, None, "zh"),
        ("a3", "Ended coffee", ["coffee"], "Food", None, "2026-02-10T12:00:00Z", "en"),
        ("a4", "New coffee", [], "Food", "2026-02-10T12:00:00Z", None, "en"),
    ]
    ads = pd.DataFrame(lines, columns=["ad_id", "title", "tags", "category", "starts_at", "ends_at", "language"])
    times = {name: worlds.utc(ads[name]) for name in ("starts_at", "ends_at")}
    return ads.assign(bid=0.5, **times)


# the same again


def test_the_same_seed_gives_the_same_frames(ads, log):
    again = simulator.simulate_log(ads.sample(frac=1, random_state=0))  # nor does the order of the ads matter
    for part in ("events", "late_events", "users"):
        pd.testing.assert_frame_equal(getattr(again, part), getattr(log, part), check_exact=True)


def test_another_seed_gives_other_people_and_events(ads, world):
    other = simulator.make_world(ads, 7)
    assert not other.people["segment"].equals(world.people["segment"])
    day = date(2026, 2, 10)
    assert len(simulator.simulate(other, day, day)) != len(simulator.simulate(world, day, day))


def test_a_day_alone_is_that_day_of_the_month(world, month):
    alone = simulator.simulate(world, date(2026, 2, 10), date(2026, 2, 10))
    within = month[month["event_id"].str.startswith("e-20260210-")].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone, within, check_exact=True)


# the ad server


def test_chances_mix_softmax_and_exploration_over_what_is_left():
    scores = np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]])
    available = np.array([[True, True, False], [True, True, True]])
    chances = days.position_chances(scores, available)
    expected = [[0.9 / 3 + 0.1 / 2, 0.9 * 2 / 3 + 0.1 / 2, 0], [0.9 / 4 + 0.1 / 3, 0.9 / 4 + 0.1 / 3, 0.45 + 0.1 / 3]]
    np.testing.assert_allclose(chances, expected, atol=1e-11)
    np.testing.assert_allclose(chances.sum(axis=1), 1, atol=1e-11)


def test_an_ad_is_drawn_where_the_uniform_number_falls():
    chances = np.array([[0.0, 0.5, 0.0, 0.5]] * 4)
    assert days.draw(chances, np.array([0.0, 0.49, 0.5, 0.99])).tolist() == [1, 1, 3, 3]


def test_propensities_are_those_of_a_walk_down_one_list(world):
    day = date(2026, 2, 10)
    visits = days.visits_of(world, day)
    shown = days.impressions(world, day, visits)
    first = shown[shown["visit"] == 0].sort_values("position")
    left = days.runs_at(world, first["at"].to_numpy()[:1])[0]
    scores = world.policy_scores[world.segment[first["user"].iloc[0]], world.language[first["user"].iloc[0]]]
    assert len(first) == visits["positions"].iloc[0]
    for ad, propensity in zip(first["ad"], first["propensity"], strict=True):
        softmax = np.exp(scores[ad]) / np.exp(scores[left]).sum()
        assert propensity == pytest.approx(0.9 * softmax + 0.1 / left.sum(), abs=1e-11)
        left[ad] = False


def test_propensities_are_probabilities_and_their_inverse_counts_the_ads(world, impressions):
    assert impressions["propensity"].between(0, 1, inclusive="right").all()
    top = impressions[impressions["position"] == 1]
    running = days.runs_at(world, days.naive(top["event_ts"])).sum(axis=1)
    assert (1 / top["propensity"]).mean() == pytest.approx(running.mean(), rel=0.05)


def test_a_list_has_6_to_10_positions_without_gap_or_double(impressions):
    lists = impressions.groupby("request_id").agg(
        size=("ad_id", "size"), ads=("ad_id", "nunique"), first=("position", "min"), last=("position", "max")
    )
    assert lists["size"].between(6, 10).all()
    assert (lists["first"] == 1).all()
    assert lists["size"].equals(lists["ads"])
    assert (lists["size"] == lists["last"]).all()


def test_nobody_sees_an_ad_outside_its_run_time(world, month):
    shown = of_type(month, "impression").merge(world.ads[["ad_id", "starts_at", "ends_at"]], how="left", on="ad_id")
    assert not (shown["event_ts"] < shown["starts_at"]).any()
    assert not (shown["event_ts"] >= shown["ends_at"]).any()
    assert shown.loc[shown["starts_at"] > pd.Timestamp(FIRST, tz="UTC"), "ad_id"].nunique() >= 10  # some are new


# what people do


def test_people_look_at_the_top_of_a_list(impressions):
    seen = impressions.groupby("position").agg(clicks=("clicked", "sum"), expected=("p_click", "sum"))
    examined = seen["clicks"] / seen["expected"] / 0.85  # 15 % of the clicks do not know their request
    np.testing.assert_allclose(examined, days.EXAMINATION, rtol=0.12)


def test_interests_drift(world):
    everyone, all_ads = np.arange(2000)[:, None], np.arange(len(world.ads))[None, :]
    start, next_day, end = (
        sum(days.probabilities(world, day, everyone, all_ads)[:1]) for day in (FIRST, date(2026, 1, 31), LAST)
    )
    likeness = [
        np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(start, later, strict=True)]) for later in (next_day, end)
    ]
    assert likeness[0] > 0.99
    assert 0.5 < likeness[1] < 0.95


def test_valentines_day_lifts_gifts(world):
    gifts = world.ads.loc[world.season[0] > 0, "ad_id"]
    assert len(gifts) >= 10
    pairs = world.people[["user_id"]].merge(gifts, how="cross")
    eve, after = (p_click(world, day, pairs).mean() for day in (date(2026, 2, 13), date(2026, 2, 20)))
    assert eve > 1.5 * after


def test_the_evening_and_the_weekend_are_busiest(month):
    visits = of_type(month, "impression").drop_duplicates("request_id")["event_ts"]
    by_hour, by_weekday = visits.dt.hour.value_counts(), visits.dt.weekday.value_counts()
    assert by_hour.idxmax() in (19, 20, 21)
    assert by_weekday[[5, 6]].mean() > 1.05 * by_weekday[[0, 1, 2, 3]].mean()


def test_what_one_cannot_read_is_hardly_ever_clicked(impressions):
    foreign = (impressions["language"] != "both") & (impressions["language"] != impressions["language_of_ad"])
    rate = impressions["clicked"].groupby(foreign).mean()
    assert foreign.sum() > 5000
    assert rate[True] < 0.01 < 0.06 < rate[False]


def test_searches_are_words_of_the_persons_language(world, month):
    searches = of_type(month, "search").merge(world.people[["user_id", "language"]], how="left", on="user_id")
    chinese = searches["query"].str.contains("[\u4e00-\u9fff]")
    assert not chinese[searches["language"] == "en"].any()
    assert chinese[searches["language"] == "zh"].mean() > 0.99
    assert 0.05 < chinese[searches["language"] == "both"].mean() < 0.95
    assert searches["ad_id"].isna().all()


def test_a_phrase_is_made_of_tags_or_else_of_the_category():
    assert days.phrase("en", ["running shoes", "trail", "light"], "Sport", np.array([0.0, 0.0, 0.2])) == (
        "running shoes trail"
    )
    assert days.phrase("zh", ["跑鞋", "透气"], "Sport", np.array([0.9, 0.0, 0.4])) == "透气 推荐"
    assert days.phrase("en", [], "Sport", np.array([0.9, 0.9, 0.5])) == "best Sport"


def test_columns_are_null_where_they_mean_nothing(month, world):
    filled = month.drop(columns=["event_id", "user_id", "event_type", "event_ts"]).notna()
    filled = filled.groupby(month["event_type"]).mean()
    always = {kind: set(filled.columns[filled.loc[kind] == 1]) for kind in filled.index}
    assert always == {
        "impression": {"ad_id", "request_id", "position", "propensity"},
        "click": {"ad_id", "cost"},  # request_id and position: mostly
        "cart": {"ad_id"},
        "purchase": {"ad_id", "value"},
        "hide": {"ad_id", "request_id", "position"},
        "search": {"query"},
    }
    assert filled.loc["click", "request_id"] == filled.loc["click", "position"] == pytest.approx(0.85, abs=0.01)
    assert ((filled > 0).sum(axis=1) - (filled == 1).sum(axis=1)).to_dict() == {**dict.fromkeys(always, 0), "click": 2}
    bids = of_type(month, "click").merge(world.ads[["ad_id", "bid"]], how="left", on="ad_id")
    assert bids["cost"].equals(bids["bid"])


def test_clicks_follow_impressions_carts_follow_clicks_and_purchases_follow_carts(month):
    chain = ["impression", "click", "cart", "purchase"]
    limits = ["2h", "2h", "2D"]
    for before, after, limit in zip(chain, chain[1:], limits, strict=False):
        earlier = of_type(month, before)[["user_id", "ad_id", "event_ts"]].assign(at=lambda rows: rows["event_ts"])
        found = pd.merge_asof(
            of_type(month, after).sort_values("event_ts"),
            earlier.sort_values("event_ts"),
            on="event_ts",
            by=["user_id", "ad_id"],
            tolerance=pd.Timedelta(limit),
            allow_exact_matches=False,
        )
        assert found["at"].notna().all(), after


def test_nobody_is_seen_before_joining(month, world):
    events = month.merge(world.people[["user_id", "joined_at"]], how="left", on="user_id", validate="many_to_one")
    assert (events["event_ts"] >= events["joined_at"]).all()


# the figures of the README


def test_rates_lie_in_the_stated_ranges(month):
    counts = month["event_type"].value_counts()
    assert 120_000 < len(month) < 180_000
    assert 0.05 < counts["click"] / counts["impression"] < 0.08
    assert 0.04 < counts["purchase"] / counts["click"] < 0.08
    assert counts["hide"] < 0.02 * counts["click"]


def test_most_active_people_have_three_clicks_and_some_have_no_history(month, world):
    visits = of_type(month, "impression").groupby("user_id")["request_id"].nunique()
    clicks = of_type(month, "click").groupby("user_id").size()
    active = visits.index[visits >= 5]
    assert len(active) > 1000
    assert (clicks.reindex(active).fillna(0) >= 3).mean() > 0.75
    new = world.people.loc[world.people["joined_at"] >= TODAY - pd.Timedelta(days=7), "user_id"]
    acted = month.loc[~month["event_type"].isin(["impression", "hide"]), "user_id"]
    assert 24 <= (~new.isin(month["user_id"])).sum() <= 100
    assert 24 <= (~new.isin(acted)).sum() <= 150


def test_people_are_as_the_readme_says(log):
    users = log.users
    assert users["user_id"].tolist() == [f"u{number:05d}" for number in range(1, 2001)]
    assert (~users["consent"]).mean() == pytest.approx(0.03, abs=0.01)
    assert (users["joined_at"] >= TODAY - pd.Timedelta(days=7)).mean() == pytest.approx(0.15, abs=0.02)
    assert users["joined_at"].max() < TODAY
    shares = users["language"].value_counts(normalize=True)
    assert shares.to_dict() == pytest.approx({"en": 0.80, "zh": 0.12, "both": 0.08}, abs=0.02)
    assert users[["segment", "age_group"]].notna().all(axis=None)
    assert set(users.loc[users["segment"] == "retired", "age_group"]) == {"55-64", "65+"}


def test_dirt_is_what_is_declared(log):
    both = pd.concat([log.events, log.late_events])
    broken = both[both["event_id"].isna() | both["event_id"].str.startswith("e-broken").fillna(False)]
    assert {
        "null user_id": int(both["user_id"].isna().sum()),
        "null event_id": int(both["event_id"].isna().sum()),
        "unknown event_type": int((both["event_type"] == "scroll_3").sum()),
        "before 2000": int((both["event_ts"] < pd.Timestamp("2000-01-01", tz="UTC")).sum()),
        "after 2100": int((both["event_ts"] > pd.Timestamp("2100-01-01", tz="UTC")).sum()),
        "search without query": int(((both["event_type"] == "search") & both["query"].isna()).sum()),
    } == simulator.BROKEN
    assert len(broken) == sum(simulator.BROKEN.values())


def test_doubled_events_are_equal_copies_some_of_them_late(log):
    both = pd.concat([log.events, log.late_events]).dropna(subset=["event_id"])
    copies = both[both["event_id"].duplicated(keep=False)]
    assert len(copies) == 2 * copies["event_id"].nunique() == 2 * len(copies.drop_duplicates())
    assert copies["event_id"].nunique() / len(both) == pytest.approx(0.003, rel=0.02)
    assert log.events["event_id"].isin(log.late_events["event_id"]).any()


def test_late_events_are_of_the_week_before_and_the_log_ends_in_the_small_hours(log):
    late = log.late_events[~log.late_events["event_id"].isin(log.events["event_id"])]
    assert late["event_ts"].between(TODAY - pd.Timedelta(days=7), TODAY, inclusive="left").all()
    assert 500 < len(late) < 1500
    today = log.events[(log.events["event_ts"] >= TODAY) & (log.events["event_ts"] < TODAY + pd.Timedelta(days=1))]
    assert 50 < len(today) < 500
    assert today["event_ts"].max() < simulator.READ_AT


def test_dirt_takes_nothing_away(log, clean):
    both = pd.concat([log.events, log.late_events])
    whole = both[both["event_id"].notna() & ~both["event_id"].str.startswith("e-broken").fillna(True)]
    whole = whole.drop_duplicates("event_id").sort_values(["event_ts", "event_id"], ignore_index=True)
    by_then = clean[clean["event_ts"] < simulator.READ_AT].reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, by_then, check_exact=True)


def test_the_counts_in_the_readme_are_the_real_ones(log):
    text = (SAMPLE / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ([\d,]+) \| ([\d,]+) \|$", text, flags=re.MULTILINE)
    stated = {kind: (int(first.replace(",", "")), int(late.replace(",", ""))) for kind, first, late in rows}
    parts = [part["event_type"].value_counts() for part in (log.events, log.late_events)]
    assert stated == {kind: tuple(int(part.get(kind, 0)) for part in parts) for kind in parts[0].index}


# the truth


def test_the_truth_orders_lists_far_better_than_the_rate_of_the_ad(impressions):
    past, future = (
        impressions[impressions["day"] < date(2026, 2, 22)],
        impressions[impressions["day"] >= date(2026, 2, 22)],
    )
    rate = rate_of(past, future)
    assert ndcg_at_10(future, future["p_click"]) > ndcg_at_10(future, rate) + 0.1


def test_what_a_person_clicked_tells_what_they_will_click(impressions):
    past, future = (
        impressions[impressions["day"] < date(2026, 2, 22)],
        impressions[impressions["day"] >= date(2026, 2, 22)],
    )
    clicks = past[past["clicked"] == 1]
    prior = clicks["category"].value_counts(normalize=True)
    own = clicks.groupby(["user_id", "category"]).size().rename("own")
    all_own = clicks.groupby("user_id").size()
    mine = future.join(own, on=["user_id", "category"])["own"].fillna(0)
    expected = future["category"].map(prior)
    share = (mine + 5 * expected) / (future["user_id"].map(all_own).fillna(0) + 5)
    rate = rate_of(past, future)
    personal = np.log(rate) + 0.7 * np.log(share / expected)
    assert ndcg_at_10(future, personal) > ndcg_at_10(future, rate) + 0.03


def rate_of(past, future):
    """Smoothed clicks per impression of each ad of `future` before it."""
    mean = past["clicked"].mean()
    seen = past.groupby("ad_id")["clicked"].agg(["sum", "size"])
    return future["ad_id"].map((seen["sum"] + 10 * mean) / (seen["size"] + 10)).fillna(mean)


def test_conversions_follow_the_truth(world, month):
    clicks = of_type(month, "click")
    expected = sum(
        simulator.true_probabilities(world, day, list(part["user_id"]), list(part["ad_id"]))[1].sum()
        for day, part in clicks.groupby(clicks["event_ts"].dt.date)
    )
    assert len(of_type(month, "purchase")) == pytest.approx(expected, rel=0.1)


def test_the_truth_knows_only_its_own_people_and_ads(world):
    with pytest.raises(ValueError, match="1 user_ids and 0 ad_ids are not in this world"):
        simulator.true_probabilities(world, LAST, ["u00001", "nobody"], list(world.ads["ad_id"][:2]))


# one more day


def test_people_answer_to_the_lists_they_are_given():
    world = simulator.make_world(few_ads(), 1)
    lists = pd.DataFrame(
        [(user, rank, ad) for user in world.people["user_id"][:1500] for rank, ad in ((1, "a3"), (2, "a1"))]
    )
    events = simulator.answer(world, date(2026, 2, 10), lists.set_axis(["user_id", "rank", "ad_id"], axis=1))
    shown = of_type(events, "impression")
    before = shown["event_ts"] < pd.Timestamp("2026-02-10T12:00:00Z")  # a3 ends at noon, then a1 moves up
    assert set(shown["user_id"]) <= set(world.people["user_id"][:1500])
    assert set(zip(shown["ad_id"][before], shown["position"][before], strict=True)) == {("a3", 1), ("a1", 2)}
    assert set(zip(shown["ad_id"][~before], shown["position"][~before], strict=True)) == {("a1", 1)}
    assert set(events["event_type"]) >= {"impression", "click"}
    assert not set(events["event_id"]) & set(
        simulator.simulate(world, date(2026, 2, 10), date(2026, 2, 10))["event_id"]
    )


def test_better_lists_get_more_clicks_the_day_after(world):
    day = date(2026, 3, 1)
    pairs = world.people[["user_id"]].merge(world.ads[["ad_id"]], how="cross")
    best = pairs.assign(p=p_click(world, day, pairs)).sort_values(["user_id", "p"], ascending=[True, False])
    best = best.groupby("user_id").head(10).assign(rank=lambda rows: rows.groupby("user_id").cumcount() + 1)
    counts = simulator.answer(world, day, best[["user_id", "rank", "ad_id"]])["event_type"].value_counts()
    logged = simulator.simulate(world, day, day)["event_type"].value_counts()
    assert counts["click"] / counts["impression"] > 3 * logged["click"] / logged["impression"]


def test_no_list_no_answer(world):
    events = simulator.answer(world, LAST, pd.DataFrame({"user_id": [], "rank": [], "ad_id": []}))
    assert events.empty
    assert list(events.columns) == days.COLUMNS
