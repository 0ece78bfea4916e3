import importlib
import sys
from datetime import date, timedelta

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.evaluation_config import OffPolicyConfig
from llmrec_spark.off_policy import RATIOS, VALUES, list_weights, place_rates, policy_sums, weight_spread
from llmrec_spark.policy_values import ESTIMATES, WeightFigures, policy_values, refusal, weight_figures
from tests.conftest import REPO

sys.path.insert(0, str(REPO / "data" / "sample"))
simulator = importlib.import_module("simulator")
days = importlib.import_module("simulated_days")

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


@pytest.fixture(scope="module")
def week():
    """Impressions of a week of the sample with what came of them and the truth, and a list for everybody.

    The list holds what the ad server prefers for people of that segment and language. truth_of_list is the chance of a
    click on its ad at that position, truth_of_any the mean over the ads that run and do not stand above, `free` many.
    """
    world = simulator.make_world(simulator.load_ads(REPO / "data" / "sample" / "ads.jsonl"), simulator.SEED)
    always = days.runs_at(world, np.array(["2026-02-22", "2026-02-28T23:59:59"], dtype="datetime64[ms]")).all(axis=0)
    best = np.argsort(-np.where(always, world.policy_scores, -np.inf), axis=-1)[..., :10]  # (S, L, 10)
    lists = best[world.segment, world.language]  # (U, 10)
    user_ids, ad_ids = world.people["user_id"].to_numpy(), world.ads["ad_id"].to_numpy()
    every = []
    for day in (date(2026, 2, 22) + timedelta(days=number) for number in range(7)):
        visits = days.visits_of(world, day)
        shown = days.impressions(world, day, visits)
        clicks = days.responses(world, day, shown)[1]
        user, visit, ad, position = (shown[name].to_numpy() for name in ("user", "visit", "ad", "position"))
        chance, _ = days.probabilities(world, day, user[:, None], np.arange(len(ad_ids))[None, :])
        chance *= days.EXAMINATION[position - 1][:, None]
        left, free = days.runs_at(world, visits["at"].to_numpy()), np.zeros(chance.shape, dtype=bool)
        for place in range(1, 11):
            here = position == place
            free[here] = left[visit[here]]
            left[visit[here], ad[here]] = False
        every.append(
            shown[["position", "propensity"]].assign(
                user_id=user_ids[user],
                ad_id=ad_ids[ad],
                request_id=np.char.add(f"{day}-", visit.astype(str)),
                clicked=shown.index.isin(clicks.index),
                free=free.sum(axis=1),
                truth_of_any=(chance * free).sum(axis=1) / free.sum(axis=1),
                truth_of_list=chance[np.arange(len(user)), lists[user, position - 1]],
                is_free=free[np.arange(len(user)), lists[user, position - 1]],
            )
        )
    ranks = {"user_id": np.repeat(user_ids, 10), "rank": np.tile(np.arange(1, 11), len(user_ids))}
    return pd.concat(every, ignore_index=True), pd.DataFrame({**ranks, "ad_id": ad_ids[lists.ravel()]})


def test_on_the_sample_intervals_cover_what_a_list_and_any_ad_would_truly_have_earned(spark, week):
    shown, lists = week
    outcomes = shown[["user_id", "request_id", "ad_id", "position", "propensity", "clicked"]]
    rates = spark.createDataFrame(lists[["ad_id"]].drop_duplicates().assign(rate=0.07))
    places = spark.createDataFrame([(1, 1.4), (10, 0.6)], "position int, relative double")
    logged, listed = spark.createDataFrame(outcomes), spark.createDataFrame(lists)
    of_list = list_weights(logged, listed, rates, places, scorer="list")
    weight = 1 / shown["free"] / shown["propensity"]
    of_any = shown[["user_id"]].assign(slice="all", scorer="any", clicked=shown["clicked"] * 1.0, weight=weight)
    of_any = of_any.assign(expected=0.07, expected_of_policy=0.07)  # a poor model
    of_any = spark.createDataFrame(of_any).selectExpr("*", "CAST(NULL AS STRING) AS missing")
    weighted = of_list.unionByName(of_any).persist()
    found = intervals(policy_sums(weighted, clip=100.0), Resampling(200, 1), ratios=RATIOS).collect()
    figures = spread(weighted)
    weighted.unpersist()
    ends = {(row.scorer, row.metric): (row.low, row.high) for row in found}
    possible = shown[shown["is_free"]]
    truths = {"any": shown["truth_of_any"].mean(), "list": possible["truth_of_list"].mean()}
    assert figures["list"].impossible == len(shown) - len(possible)
    for scorer, truth in truths.items():
        for name in ("off_policy_ips", "off_policy_snips", "off_policy_dr"):
            low, high = ends[scorer, name]
            assert low < truth < high, (scorer, name, low, truth, high)
        low, high = ends[scorer, "off_policy_mean_weight"]
        assert low < 1 < high
    assert refusal(figures["any"], ends["any", "off_policy_mean_weight"], OffPolicyConfig()) is None
    assert refusal(figures["list"], ends["list", "off_policy_mean_weight"], OffPolicyConfig()) is None
    assert ends["list", "off_policy_lift"][0] > 0  # it is known to be better than what was shown
