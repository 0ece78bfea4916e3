import numpy as np
import pytest

from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.off_policy import RATIOS, VALUES, list_weights, place_rates, policy_sums, weight_spread
from llmrec_spark.policy_values import ESTIMATES, WeightFigures, policy_values, weight_figures

OUTCOMES = "user_id string, request_id string, ad_id string, position int, propensity double, clicked boolean"
WEIGHTED = (
    "user_id string, slice string, scorer string, clicked double, weight double, expected double, "
    "expected_of_policy double, missing string"
)


def spread(weighted):
    """scorer -> WeightFigures."""
    rows = [row.asDict() for row in weight_spread(weighted).drop("slice").collect()]
    return {row.pop("scorer"): WeightFigures(**row) for row in rows}


def test_an_impression_weighs_what_the_list_shows_there_over_its_propensity(spark):
    shown = [
        ("u", "r1", "a", 1, 0.5, True),  # as listed
        ("u", "r1", "c", 2, 0.25, False),  # b is listed
        ("u", "r2", "b", 1, 0.1, False),  # a is listed
        ("u", "r2", "a", 2, 0.5, False),  # b is listed and stands above: it could not come again
        ("u", None, "b", 2, 0.2, True),  # as listed, in no request
        ("u", "r1", "d", 3, 0.5, False),  # nothing is listed at 3
        ("v", "r3", "a", 1, 0.5, False),  # nor for v
        ("u", "r4", "a", 1, None, False),
        ("u", "r4", "b", 2, 0.0, False),
        ("u", "r4", "b", 2, 1.5, False),
        ("u", "r4", "b", 2, float("nan"), False),
        ("u", "r4", "b", None, 0.5, False),
    ]
    lists = spark.createDataFrame([("u", 1, "a"), ("u", 2, "b")], "user_id string, rank int, ad_id string")
    rates = spark.createDataFrame([("a", 0.4), ("b", 0.6)], "ad_id string, rate double")
    places = spark.createDataFrame([(1, 2.0), (2, 0.5)], "position int, relative double")
    weighted = list_weights(spark.createDataFrame(shown, OUTCOMES), lists, rates, places, scorer="score")
    found = weighted.where("missing IS NULL").orderBy("weight", "expected").collect()
    assert [(row.weight, row.clicked, row.expected, row.expected_of_policy) for row in found] == [
        (0.0, 0.0, 0.0, 0.3),  # c has no rate
        (0.0, 0.0, 1.0, 0.8),  # 1.2 would be no probability
        (2.0, 1.0, 0.8, 0.8),
        (5.0, 1.0, 0.3, 0.3),
    ]
    figures = spread(weighted)["score"]
    assert (figures.rows, figures.unknown, figures.unlisted, figures.impossible, figures.used) == (12, 5, 2, 1, 4)
    assert figures.support == 0.8
    assert spread(weighted.where("missing IS NOT NULL"))["score"].effective_sample == 0.0


def random_log(seed, rows=400):
    """Weights, many 0 and many equal, rewards, and what a model expects of the logged ad and of the policy."""
    rng = np.random.default_rng(seed)
    weights = np.where(rng.random(rows) < 0.6, 0.0, rng.integers(1, 40, rows) / 4)
    return weights, (rng.random(rows) < 0.3).astype(float), rng.random(rows), rng.random(rows)


@pytest.mark.parametrize("partitions", [1, 5])
def test_values_and_figures_equal_the_formulas_on_arrays(spark, partitions):
    logs = {"one": random_log(1), "other": random_log(2, rows=90)}
    rows = [
        (f"u{n % 50}", "all", scorer, *(float(column[n]) for column in (log[1], log[0], log[2], log[3])), None)
        for scorer, log in logs.items()
        for n in range(len(log[0]))
    ]
    weighted = spark.createDataFrame(rows, WEIGHTED).repartition(partitions)
    found = intervals(policy_sums(weighted, clip=3.0), Resampling(20, 1), ratios=RATIOS).collect()
    by = {(row.scorer, row.metric): row.value for row in found}
    figures = spread(weighted)
    for scorer, log in logs.items():
        expected = policy_values(*log, clip=3.0)
        assert [by[scorer, name] for name in VALUES] == pytest.approx([expected[name] for name in ESTIMATES], abs=1e-6)
        assert by[scorer, "off_policy_logged"] == pytest.approx(log[1].mean())
        assert by[scorer, "off_policy_mean_weight"] == pytest.approx(log[0].mean())
        assert by[scorer, "off_policy_lift"] == pytest.approx(expected["dr"] - log[1].mean())
        assert vars(figures[scorer]) == pytest.approx(vars(weight_figures(log[0], log[1])))


def test_a_position_is_clicked_so_often_relative_to_all(spark):
    rows = [(1, True)] * 6 + [(1, False)] * 4 + [(2, True)] * 1 + [(2, False)] * 9 + [(None, True)]
    shown = spark.createDataFrame(rows, "position int, clicked boolean")
    found = {row.position: row.relative for row in place_rates(shown, prior_shown=10.0).collect()}
    assert found == pytest.approx({1: (6 + 3.5) / 20 / 0.35, 2: (1 + 3.5) / 20 / 0.35})
    assert place_rates(shown.where("NOT clicked"), prior_shown=10.0).count() == 0
