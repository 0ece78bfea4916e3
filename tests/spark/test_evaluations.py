import numpy as np
import pytest

from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.evaluations import OUTCOME_RATIOS, OUTCOME_TOTALS, list_sums, outcome_sums, ranking_sums
from llmrec_spark.metrics import RANKING_METRICS, one_list, ranking_metrics
from tests.spark.rows import ads_of

OUTCOMES = (
    "user_id string, ad_id string, position int, source string, clicked boolean, conversions bigint, value double, "
    "cost double"
)


def slices_of(spark, users):
    return spark.createDataFrame(
        [(user, ["all", *more]) for user, more in users.items()], "user_id string, slices array<string>"
    )


def random_lists(seed, users=30):
    """user -> scores (some NULL, some tied) and clicks; the first user clicked nothing, the second all."""
    rng = np.random.default_rng(seed)
    lists = {}
    for user in range(users):
        n = int(rng.integers(1, 15))
        scores = [None if rng.random() < 0.1 else float(rng.integers(0, 6)) for _ in range(n)]
        clicks = rng.random(n) < (0.0, 1.0, 0.3)[min(user, 2)]
        lists[f"u{user}"] = scores, clicks
    return lists


@pytest.mark.parametrize("partitions", [1, 5])
def test_means_over_users_equal_the_formulas_on_each_list(spark, partitions):
    lists = random_lists(4)
    rows = [(u, bool(c), s) for u, (scores, clicks) in lists.items() for s, c in zip(scores, clicks, strict=True)]
    judged = spark.createDataFrame(rows, "user_id string, clicked boolean, mine double").repartition(partitions)
    sums = ranking_sums(judged, slices_of(spark, dict.fromkeys(lists, ())), scorers=["mine"], k=5)
    found = {
        row.metric: (row.value, row.n)
        for row in intervals(sums, ratios=RANKING_METRICS, resampling=Resampling(20, 1)).collect()
    }
    for name in RANKING_METRICS:
        each = [one_list(name, np.array(s, dtype=float), c, 5) for s, c in lists.values() if 0 < sum(c) < len(c)]
        assert found[name] == (pytest.approx(np.mean(each), abs=1e-6), len(each)), name


def test_each_scorer_and_slice_has_its_own_rows(spark):
    rows = [("u", True, 1.0, 0.0), ("u", False, 0.0, 1.0), ("v", True, 0.0, 1.0), ("v", False, 1.0, 0.0)]
    judged = spark.createDataFrame(rows, "user_id string, clicked boolean, a double, b double")
    sums = ranking_sums(judged, slices_of(spark, {"u": ["x=1"], "v": []}), scorers=["a", "b"], k=10)
    found = (
        intervals(sums, ratios=RANKING_METRICS, resampling=Resampling(20, 1)).where("metric = 'group_auc'").collect()
    )
    assert {(row["slice"], row.scorer): (row.value, row.n) for row in found} == {
        ("all", "a"): (0.5, 2),
        ("all", "b"): (0.5, 2),
        ("x=1", "a"): (1.0, 1),
        ("x=1", "b"): (0.0, 1),
    }


def test_a_list_of_clicks_only_or_of_none_is_not_judged(spark):
    judged = spark.createDataFrame(
        [("u", True, 1.0), ("v", False, 1.0)], "user_id string, clicked boolean, mine double"
    )
    assert ranking_sums(judged, slices_of(spark, {"u": [], "v": []}), scorers=["mine"], k=5).count() == 0


def test_nothing_judged_gives_no_rows(spark):
    judged = spark.createDataFrame([], "user_id string, clicked boolean, mine double")
    sums = ranking_sums(judged, slices_of(spark, {"u": []}), scorers=["mine"], k=5)
    assert intervals(sums, ratios=RANKING_METRICS, resampling=Resampling(20, 1)).count() == 0


LISTS = "user_id string, slices array<string>, relevant int, clicked array<boolean>, mine array<double>"


def test_relevant_ads_outside_the_list_count_and_a_user_without_a_list_has_an_empty_one(spark):
    rows = [("u", ["all"], 3, [False, True, False], [0.9, 0.5, None]), ("v", ["all"], 2, None, None)]
    found = {
        row.user_id: row.sums for row in list_sums(spark.createDataFrame(rows, LISTS), scorers=["mine"], k=2).collect()
    }
    scores, clicked = np.array([0.9, 0.5, np.nan]), np.array([False, True, False])
    expected = ranking_metrics(scores, clicked, np.array([3, 0]), k=2, total=np.array([3, 2]))
    for place, name in enumerate(RANKING_METRICS):
        of_user = [found[user][place] for user in "uv"]
        assert of_user == pytest.approx(np.nan_to_num(expected[name]).tolist()), name
    assert found["u"][7:] == [1.0] * 7
    assert found["v"] == [0.0] * 7 + [1.0] * 6 + [0.0]  # of no pairs there is no group_auc


def outcome_table(spark, *rows, users=None):
    """(slice, metric) -> value."""
    ads = ads_of(
        spark,
        {"ad_id": "a", "title": "a", "category": ["Games", "Toys"], "advertiser_id": "x"},
        {"ad_id": "b", "title": "b"},
    )
    people = slices_of(spark, users or {"u": [], "v": []})
    sums = outcome_sums(spark.createDataFrame(rows, OUTCOMES), people, ads)
    found = intervals(sums, ratios=OUTCOME_RATIOS, totals=OUTCOME_TOTALS, resampling=Resampling(20, 1)).collect()
    return {(row["slice"], row.metric): row.value for row in found}


def test_rates_and_totals_of_what_was_shown(spark):
    found = outcome_table(
        spark,
        ("u", "a", 1, "personal", True, 1, 30.0, 2.0),
        ("u", "b", 2, "personal", True, 0, None, 1.0),
        ("v", "a", 1, None, False, 0, None, None),
        ("v", "b", 2, None, False, 0, None, None),
    )
    every = {metric: value for (name, metric), value in found.items() if name == "all"}
    assert every == {
        "impressions": 4, "clicks": 2, "conversions": 1, "revenue": 30, "cost": 3, "ctr": 0.5, "cvr": 0.5, "roi": 9
    }  # fmt: skip


def test_rates_are_told_by_position_source_category_and_advertiser(spark):
    found = outcome_table(
        spark,
        ("u", "a", 1, "personal", True, 0, None, None),
        ("u", "b", 2, "personal", False, 0, None, None),
        ("v", "b", None, None, True, 0, None, None),
        users={"u": ["segment=young"], "v": []},
    )
    assert {name: value for (name, metric), value in found.items() if metric == "ctr"} == {
        "all": pytest.approx(2 / 3),
        "segment=young": 0.5,
        "position=1": 1.0,
        "position=2": 0.0,
        "source=personal": 0.5,
        "category=Games": 1.0,
        "category=Toys": 1.0,
        "advertiser=x": 1.0,
    }


def test_without_clicks_there_is_no_conversion_rate_and_without_costs_no_return(spark):
    found = outcome_table(spark, ("u", "a", 1, None, False, 0, None, None))
    assert (found["all", "ctr"], found["all", "cvr"], found["all", "roi"]) == (0.0, None, None)
