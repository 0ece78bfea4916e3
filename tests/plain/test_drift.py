import numpy as np
import pytest
from scipy.stats import ks_2samp

from llmrec_spark.drift import Figure, checks, ks_distance, population_stability
from llmrec_spark.evaluation_config import DriftConfig

CONFIG = DriftConfig()


def compared(name, today, *before, n=1000, config=CONFIG):
    """The check of one figure by its values."""
    [found] = checks({name: Figure(today, n)}, [{name: Figure(value, n)} for value in before], config)
    return found


def sampled(values):
    return Figure(float(np.mean(values)), len(values), np.sort(values))


def distances(today, *before, config=CONFIG):
    """The checks of one sample: ks, psi."""
    return checks({"values.score": sampled(today)}, [{"values.score": sampled(one)} for one in before], config)


def normal(count, mean=0.0, seed=0):
    return np.random.default_rng(seed).normal(mean, 1.0, count)


@pytest.mark.parametrize(
    "name, today, before, bound, is_alert",
    [
        ("rows.events", 499.0, (900.0, 1100.0), 500.0, True),  # less than half
        ("rows.events", 500.0, (900.0, 1100.0), 500.0, False),
        ("rows.events", 2000.0, (1000.0,), 2000.0, False),
        ("rows.events", 2001.0, (1000.0,), 2000.0, True),
        ("rows.events", 0.0, (1000.0,), 500.0, True),  # of a type that is gone
        ("rows.events", 900.0, (0.0,), 0.0, True),
        ("null.position", 0.31, (0.1, 0.3), 0.3, True),
        ("null.position", 0.29, (0.1, 0.3), 0.3, False),
        ("null.position", 0.0, (1.0,), 1.1, False),  # a column that fills is no harm
        ("new.ads", 0.5, (0.1,), 0.2, True),
        ("unknown.tokens", 0.07, (0.01,), 0.06, True),
        ("refused.events", 0.012, (0.001,), 0.011, True),
        ("lists.cold_start", 0.4, (0.2,), 0.3, True),
        ("top.ad", 0.4, (0.2,), 0.3, True),
        ("calibration.score", 0.041, (0.01, 0.03), 0.04, True),
        ("calibration.score", 0.039, (0.01, 0.03), 0.04, False),
    ],
)
def test_a_figure_has_the_bound_of_its_family(name, today, before, bound, is_alert):
    found = compared(name, today, *before)
    assert (found.before, found.bound, found.is_alert) == (pytest.approx(sum(before) / len(before)), bound, is_alert)
    assert f"{len(before)} day" in found.reason


@pytest.mark.parametrize("name, today, before", [("rows.events.hide", 3.0, 40.0), ("null.value", 1.0, 0.0)])
def test_few_rows_raise_no_alert_and_say_so(name, today, before):
    found = compared(name, today, before, n=40)
    assert not found.is_alert
    assert found.reason.endswith("fewer than 500 rows, so no alert")


def test_days_that_lack_a_figure_are_left_out_of_its_mean():
    before = [{"null.value": Figure(0.2, 900)}, {}, {"null.value": Figure(None, 0)}, {"null.value": Figure(0.4, 900)}]
    [found] = checks({"null.value": Figure(0.3, 900)}, before, CONFIG)
    assert found.before == pytest.approx(0.3)
    assert "2 days before" in found.reason


def test_a_figure_without_a_day_before_is_told_and_not_compared():
    found = checks({"rows.users": Figure(9.0, 9), "values.score": sampled(normal(99))}, [], CONFIG)
    assert [(one.name, one.value, one.before, one.is_alert) for one in found] == [
        ("ks.score", None, None, False),
        ("rows.users", 9.0, None, False),
    ]
    assert {one.reason for one in found} == {"no day before has it: nothing to compare with"}
    assert checks({"null.value": Figure(None, 0)}, [], CONFIG) == []


def test_scores_that_moved_raise_an_alert_and_their_psi_never_does():
    ks, psi = distances(normal(10_000, 0.3), normal(6_000, seed=1), normal(6_000, seed=2))
    assert (ks.name, ks.is_alert, ks.bound) == ("ks.score", True, 0.05)
    assert ks.value == pytest.approx(0.119, abs=0.02)  # 2 Phi(0.15) - 1
    assert "10,000 values beside 12,000 of 2 days before" in ks.reason
    assert (psi.name, psi.is_alert, psi.bound) == ("psi.score", False, None)
    assert psi.value == pytest.approx(0.09, abs=0.03)  # mean^2 of two normals, by deciles


def test_scores_that_did_not_move_raise_none():
    ks, psi = distances(normal(10_000), normal(10_000, seed=1))
    assert not ks.is_alert
    assert ks.value < 0.03
    assert psi.value < 0.01


@pytest.mark.parametrize("today, before", [(9_999, 20_000), (20_000, 9_999)])
def test_a_small_sample_raises_no_alert_and_says_so(today, before):
    ks, _ = distances(normal(today, 3.0), normal(before, seed=1))
    assert ks.value > 0.5
    assert not ks.is_alert
    assert ks.reason.endswith("fewer than 10,000 on a side, so no alert")


def test_a_day_whose_sample_is_empty_counts_for_nothing():
    today, empty = {"values.score": sampled(normal(99))}, {"values.score": Figure(None, 0)}
    ks, _ = checks(today, [empty, today, {}], CONFIG)
    assert (ks.value, "1 day before" in ks.reason) == (0.0, True)


@pytest.mark.parametrize(
    "one, other, distance",
    [
        ([1, 2, 3], [1, 2, 3], 0.0),
        ([1, 1, 1], [1, 1, 2], 1 / 3),  # ties are one step
        ([0, 0], [1, 1], 1.0),
        ([1, 2, 2, 3], [2, 2], 0.25),
        ([], [1.0], np.nan),
        ([1.0], [], np.nan),
    ],
)
def test_the_distance_is_the_largest_gap_between_the_shares_below(one, other, distance):
    assert ks_distance(np.array(one), np.array(other)) == pytest.approx(distance, nan_ok=True)


@pytest.mark.parametrize("seed", range(20))
def test_the_distance_is_that_of_scipy_with_ties_too(seed):
    drawn = np.random.default_rng(seed)
    one, other = drawn.integers(0, 9, drawn.integers(1, 60)), drawn.normal(4, 3, drawn.integers(1, 60)).round(seed % 3)
    assert ks_distance(one, other) == pytest.approx(ks_2samp(one, other).statistic)


def test_the_psi_follows_its_formula():
    before = np.arange(100.0)  # ten in each decile
    today = np.concatenate([np.arange(0.0, 10.0), np.full(90, 99.0)])
    q = np.full(10, 10.5 / 105)
    p = np.array([10.5, *[0.5] * 8, 90.5]) / 105
    assert population_stability(today, before) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert population_stability(before, before) == 0.0


def test_the_psi_of_tied_values_ends_a_bin_at_each_value():
    before, today = np.array([1.0] * 50 + [2.0] * 50), np.array([1.0] * 75 + [2.0] * 25)
    p, q = np.array([75.5, 25.5, 0.5]) / 101.5, np.array([50.5, 50.5, 0.5]) / 101.5
    assert population_stability(today, before) == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert np.isnan(population_stability(np.empty(0), before))
    assert np.isnan(population_stability(today, np.empty(0)))
