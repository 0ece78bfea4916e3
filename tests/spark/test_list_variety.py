from itertools import combinations

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.list_exposures import ad_slices, expected_exposures, exposure_intervals
from llmrec_spark.list_variety import (
    common_sums,
    live_figures,
    live_vectors,
    met_ads,
    top_ads,
    top_candidates,
    variety_sums,
    write_vectors,
)
from llmrec_spark.metrics import VARIETY_METRICS, gini, self_information
from tests.spark.rows import ads_of, event, events_of

K = 3
ADS = [f"a{n}" for n in range(8)]
LISTS = "user_id string, scorer string, ad_id string, rank int"
PAIRS = "user_id string, ad_id string"


def unit_vectors(seed):
    """Of each ad; the last one has no text."""
    vectors = np.random.default_rng(seed).normal(size=(len(ADS), 4))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[-1] = 0
    return vectors


def random_day(seed, users=25):
    """Lists of up to 4 ads, what each user met before, and what was shown and clicked of the lists."""
    rng = np.random.default_rng(seed)
    lists = {f"u{u}": list(rng.permutation(ADS)[: rng.integers(1, 5)]) for u in range(users)}
    met = {user: set(rng.choice(ADS, rng.integers(0, 5))) for user in lists}
    shown = {(user, ad): bool(rng.random() < 0.5) for user in lists for ad in lists[user] if rng.random() < 0.7}
    return lists, met, shown


def figures_of(met, vectors):
    """What the stages read of the ads: a0, a1 and a2 are popular."""
    users_met = np.array([sum(ad in of_user for of_user in met.values()) for ad in ADS])
    information = self_information(users_met, sum(bool(of_user) for of_user in met.values()))
    popular = [ad in ADS[:K] for ad in ADS]
    columns = {"ad_id": ADS, "place": range(len(vectors)), "information": information, "is_popular": popular}
    return pd.DataFrame(columns | {"clicks": [9, 9, 5, 4, 3, 2, 1, 0]})


def slow(lists, met, shown, figures, vectors):
    """Means over users of each metric, as textbooks write them."""
    of_ad = figures.set_index("ad_id")
    values = {name: [] for name in VARIETY_METRICS}
    for user, ads in lists.items():
        top = ads[:K]
        pairs = [vectors[ADS.index(a)] @ vectors[ADS.index(b)] for a, b in combinations(set(top) - {ADS[-1]}, 2)]
        known = [ad for ad in top if (user, ad) in shown]
        found = [shown[user, ad] and not of_ad["is_popular"][ad] for ad in known]
        values["diversity"] += [1 - np.mean(pairs)] if pairs else []
        values["novelty"].append(np.mean([of_ad["information"][ad] for ad in top]))
        values["serendipity"] += [np.mean(found)] if found else []
        values["repeat_rate"].append(np.mean([ad in met[user] for ad in top]))
    return {name: (pytest.approx(np.mean(of_users), abs=1e-6), len(of_users)) for name, of_users in values.items()}


def by_metric(sums):
    """(slice, scorer, metric) -> value and n."""
    found = intervals(sums, Resampling(20, 1), ratios=VARIETY_METRICS).collect()
    return {(row["slice"], row.scorer, row.metric): (row.value, row.n) for row in found}


@pytest.fixture(scope="module")
def day(spark, tmp_path_factory):
    """A random day as tables, the folder of its vectors, and what it was made of."""
    (lists, met, shown), vectors = random_day(3), unit_vectors(5)
    figures, folder = figures_of(met, vectors), tmp_path_factory.mktemp("variety") / "ads"
    write_vectors(folder, vectors.astype(np.float32))
    tables = {
        "lists": spark.createDataFrame(
            [(user, "score", ad, rank) for user, ads in lists.items() for rank, ad in enumerate(ads, start=1)], LISTS
        ).repartition(5),
        "met": spark.createDataFrame([(user, ad) for user, ads in met.items() for ad in sorted(ads)], PAIRS),
        "judged": spark.createDataFrame([(*one, shown[one]) for one in shown], f"{PAIRS}, clicked boolean"),
        "slices": spark.createDataFrame(
            [(user, ["all", f"even={user[-1] in '02468'}"]) for user in lists], "user_id string, slices array<string>"
        ),
        "ads": spark.createDataFrame(figures),
    }
    return tables, str(folder), (lists, met, shown, figures, vectors)


def test_means_over_users_equal_the_textbook_on_each_list(day):
    tables, folder, (lists, *made_of) = day
    tops = top_ads(tables["lists"], tables["ads"], k=K)
    rest = [tables[name] for name in ("ads", "met", "judged", "slices")]
    found = by_metric(variety_sums(tops, *rest, vectors=folder))
    even = {user: ads for user, ads in lists.items() if user[-1] in "02468"}
    for name, part in (("all", lists), ("even=True", even)):
        expected = slow(part, *made_of)
        assert {metric: found[name, "score", metric] for metric in VARIETY_METRICS} == expected


def test_lists_that_all_users_share_repeat_what_each_of_them_met(day):
    tables, _, (lists, met, *_) = day
    variety = {"popularity": (0.4, 1.5), "random": (float("nan"), 2.5)}
    found = by_metric(common_sums(tables["ads"], tables["met"], tables["slices"], variety=variety))
    n = len(lists)
    expected = {
        "diversity": {"popularity": (0.4, n), "random": (None, 0)},
        "novelty": {"popularity": (1.5, n), "random": (2.5, n)},
        "serendipity": {"popularity": (0.0, n), "random": (None, 0)},
        "repeat_rate": {
            "popularity": (pytest.approx(np.mean([len(met[user] & set(ADS[:K])) / K for user in lists])), n),
            "random": (pytest.approx(np.mean([len(met[user]) / len(ADS) for user in lists])), n),
        },
    }
    for metric, scorers in expected.items():
        assert {scorer: found["all", scorer, metric] for scorer in scorers} == scorers, metric


def test_of_candidates_the_most_clicked_are_expected_and_all_are_random(spark):
    ads = spark.createDataFrame([("a", 1), ("b", 5), ("c", 1)], "ad_id string, clicks bigint")
    given = spark.createDataFrame([("u", "a"), ("u", "b"), ("u", "c"), ("v", "c"), ("v", "gone")], PAIRS)
    lists = spark.createDataFrame(
        [("u", "score", "c", 1), ("u", "score", "b", 2), ("u", "score", "a", 3), ("v", "score", "c", 1)], LISTS
    )
    found = {}
    for row in top_candidates(lists, given, ads, k=2).collect():
        found.setdefault((row.user_id, row.scorer), {})[row.ad_id] = row.expected
    assert found == {
        ("u", "score"): {"c": False, "b": True},
        ("u", "popularity"): {"b": True, "a": True},  # a before c: ties go by ad_id
        ("u", "random"): {"a": True, "b": True, "c": False},
        ("v", "score"): {"c": True},
        ("v", "popularity"): {"c": True},
        ("v", "random"): {"c": True},
    }


def test_what_a_user_met_counts_once_and_every_live_ad_has_its_figures(spark):
    events = events_of(
        spark, event("1"), event("2", "impression"), event("3", user_id="v"), event("4", "search", ad_id=None)
    )
    live = spark.createDataFrame([("a",), ("new",)], "ad_id string")
    statistics = spark.createDataFrame([("a", 2), ("old", 7)], "ad_id string, clicks bigint")
    rows = live_figures(live, statistics, met_ads(events)).collect()
    assert {(row.ad_id, row.clicks, row.users_met, row.users) for row in rows} == {("a", 2, 2, 2), ("new", 0, 0, 2)}


def exposures(spark, rows, groups, live):
    tops = spark.createDataFrame(rows, f"{PAIRS}, scorer string")
    of_groups = pd.DataFrame(groups, columns=["slice", "ad_id"])
    found = exposure_intervals(tops, of_groups, Resampling(40, 1), live=pd.Index(live)).collect()
    return {(row["slice"], row.scorer, row.metric): row for row in found}


def test_places_are_counted_by_ad_and_by_group_of_ads(spark):
    rows = [(f"u{n}", "a", "score") for n in range(30)] + [(f"u{n}", "b", "score") for n in range(10)]
    rows += [("u1", "gone", "score"), ("u1", "b", "other")]
    groups = [("x=1", "a"), ("x=2", "b"), ("x=2", "c"), ("y=1", "c")]
    found = exposures(spark, rows, groups, ["a", "b", "c", "d"])
    coverage, unequal = found["all", "score", "coverage"], found["all", "score", "gini"]
    assert (coverage.value, coverage.low, coverage.high, coverage.n) == (0.5, None, None, 40)
    assert (unequal.value, unequal.n) == (pytest.approx(gini(np.array([30, 10, 0, 0]))), 40)
    assert unequal.low < unequal.value < unequal.high
    shares = {name: found[name, "score", "exposure_share"] for name in ("x=1", "x=2", "y=1")}
    assert {name: row.value for name, row in shares.items()} == {"x=1": 0.75, "x=2": 0.25, "y=1": 0.0}
    assert shares["x=1"].low < 0.75 < shares["x=1"].high
    assert found["all", "other", "coverage"].value == 0.25


def test_without_a_list_nothing_is_said_of_places(spark):
    assert exposures(spark, [], [], ["a"]) == {}


def test_random_and_popular_lists_have_what_is_expected_of_them():
    ads = pd.DataFrame({"ad_id": ["a", "b", "c", "d"], "is_popular": [True, False, False, False]})
    groups = pd.DataFrame({"slice": ["x=1", "x=1", "x=2"], "ad_id": ["a", "b", "c"]})
    rows = expected_exposures(pd.DataFrame({"length": [1], "lists": [2]}), groups, ads)
    found = rows.set_index(["slice", "scorer", "metric"])["value"].to_dict()
    assert found == {
        ("all", "popularity", "coverage"): 0.25,
        ("all", "random", "coverage"): pytest.approx(1 - (3 / 4) ** 2),
        ("all", "popularity", "gini"): 0.75,
        ("all", "random", "gini"): pytest.approx(0.75 * 0.25 + 0.5 * 0.75),  # the same ad twice, or two ads
        ("x=1", "popularity", "exposure_share"): 1.0,
        ("x=1", "random", "exposure_share"): 0.5,
        ("x=2", "popularity", "exposure_share"): 0.0,
        ("x=2", "random", "exposure_share"): 0.25,
    }
    assert rows[["low", "high"]].isna().all(axis=None)


def test_every_value_of_a_list_is_a_slice_and_unknown_is_none(spark):
    ads = ads_of(
        spark,
        {"ad_id": "a", "category": ["Games", "Toys", "Toys"], "advertiser_id": "x"},
        {"ad_id": "b", "category": None, "advertiser_id": None},
    )
    found = ad_slices(ads, columns=["category", "advertiser_id"]).collect()
    assert sorted(tuple(row) for row in found) == [
        ("advertiser_id=x", "a"),
        ("category=Games", "a"),
        ("category=Toys", "a"),
    ]
    assert ad_slices(ads, columns=[]).count() == 0


def test_an_ad_is_the_mean_of_its_fields_each_less_what_that_field_has_in_common():
    texts = pd.DataFrame(
        [("a", "title", "1"), ("a", "tags", "2"), ("b", "title", "3"), ("c", "tags", "2")],
        columns=["ad_id", "field", "text_hash"],
    )
    of_text = {"1": [1.0, 0.0], "2": [0.0, 1.0], "3": [0.6, 0.8]}
    vectors = pd.Series({name: np.array(one, dtype="<f4").tobytes() for name, one in of_text.items()})
    found = live_vectors(texts, vectors, pd.Index(["a", "b", "c", "d"]))
    along = np.array([0.2, -0.4]) / np.hypot(0.2, 0.4)  # from the mean of the titles to that of a
    expected = [along, -along, [0, 0], [0, 0]]  # both have the tags there are, so tags tell nothing; d has no text
    assert found == pytest.approx(np.array(expected), abs=1e-6)
