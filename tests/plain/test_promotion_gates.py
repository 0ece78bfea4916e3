from dataclasses import replace

import pytest

from llmrec_spark.promotion_config import PromotionConfig
from llmrec_spark.promotion_gates import (
    FAILED,
    NOT_APPLICABLE,
    NOT_JUDGED,
    PASSED,
    Compared,
    Difference,
    Group,
    RunFigures,
    failures,
    gate_lines,
    gate_numbers,
    judged_gates,
)

BOUNDS = PromotionConfig(
    max_ndcg_loss=0.01,
    max_calibration_rise=0.005,
    max_coverage_loss=0.05,
    max_group_loss=0.03,
    max_seconds_ratio=2.0,
    min_users=100,
)
SAME = RunFigures(ndcg=0.6, calibration_error=0.01, coverage=0.8, seconds_per_user=0.5)
LOST = Group(0.6, 0.55, Difference(-0.05, -0.06, -0.04, 100))
EQUAL = Compared(
    SAME, SAME, Difference(0.0, -0.005, 0.005, 100), {"user=known": Group(0.6, 0.6, Difference(0, 0, 0, 100))}
)


def gate(name, compared=EQUAL, bounds=BOUNDS):
    """The gate of a name."""
    return {one.name: one for one in judged_gates(compared, bounds)}[name]


def challenger(**figures):
    """Equal versions but for these figures of the challenger."""
    return replace(EQUAL, challenger=replace(SAME, **figures))


def test_an_equal_challenger_passes_every_gate():
    gates = judged_gates(EQUAL, BOUNDS)
    assert [one.verdict for one in gates] == [PASSED] * 5
    assert failures(gates, require_all=True) == []


@pytest.mark.parametrize("low, verdict", [(-0.01, PASSED), (-0.0101, FAILED), (0.02, PASSED)])
def test_ndcg_is_judged_by_the_lower_end_of_the_difference(low, verdict):
    of = replace(EQUAL, ndcg=Difference(0.03, low, 0.05, 100))
    assert gate("ndcg", of).verdict == verdict


def test_a_challenger_that_is_better_but_uncertain_does_not_pass():
    assert gate("ndcg", replace(EQUAL, ndcg=Difference(0.01, -0.02, 0.04, 500))).verdict == FAILED


@pytest.mark.parametrize("none", [None, Difference(None, None, None, 0), Difference(0.1, None, None, 100)])
def test_without_a_difference_ndcg_is_not_judged(none):
    found = gate("ndcg", replace(EQUAL, ndcg=none))
    assert (found.verdict, found.why) == (NOT_JUDGED, "nobody clicked some and not all of what was shown")


def test_ndcg_of_few_users_is_not_judged_however_good():
    found = gate("ndcg", replace(EQUAL, ndcg=Difference(0.3, 0.2, 0.4, 99)))
    assert (found.verdict, found.why) == (NOT_JUDGED, "99 users clicked, fewer than promotion.min_users = 100")


@pytest.mark.parametrize("error, verdict", [(0.015, PASSED), (0.0151, FAILED), (0.0, PASSED)])
def test_the_calibration_error_may_rise_by_the_bound(error, verdict):
    assert gate("calibration", challenger(calibration_error=error)).verdict == verdict


def test_a_challenger_that_gives_no_probabilities_any_more_fails():
    found = gate("calibration", challenger(calibration_error=None))
    assert (found.verdict, found.why) == (FAILED, "the champion gives p_click, the challenger none")


@pytest.mark.parametrize("error", [None, 0.3])
def test_calibration_does_not_apply_while_the_champion_gives_no_probabilities(error):
    of = replace(challenger(calibration_error=error), champion=replace(SAME, calibration_error=None))
    found = gate("calibration", of)
    assert (found.verdict, found.why) == (NOT_APPLICABLE, "the champion gives no p_click")
    assert failures([found], require_all=True) == []


@pytest.mark.parametrize("coverage, verdict", [(0.75, PASSED), (0.7499, FAILED), (1.0, PASSED), (None, NOT_JUDGED)])
def test_coverage_may_fall_by_the_bound(coverage, verdict):
    assert gate("coverage", challenger(coverage=coverage)).verdict == verdict


@pytest.mark.parametrize("loss, verdict", [(0.03, PASSED), (0.0301, FAILED), (-0.2, PASSED)])
def test_the_group_that_loses_most_may_lose_the_bound(loss, verdict):
    lost = Group(0.6, 0.6 - loss, Difference(-loss, -loss - 0.1, -loss + 0.1, 100))
    assert gate("groups", replace(EQUAL, groups={"segment=a": lost})).verdict == verdict


def test_the_group_gate_names_the_group_that_loses_most_and_shows_it():
    small_loss = Group(0.6, 0.59, Difference(-0.01, -0.02, 0.0, 400))
    found = gate("groups", replace(EQUAL, groups={"segment=a": small_loss, "segment=b": LOST}))
    assert (found.champion, found.challenger, found.difference, found.interval) == (0.6, 0.55, -0.05, (-0.06, -0.04))
    assert found.why == "most lost of 2 groups: segment=b, 100 users"


def test_of_groups_that_lose_the_same_the_first_name_is_told():
    assert "segment=a" in gate("groups", replace(EQUAL, groups={"segment=b": LOST, "segment=a": LOST})).why


@pytest.mark.parametrize(
    "groups",
    [
        {},
        {"segment=a": replace(LOST, difference=replace(LOST.difference, users=99))},
        {"segment=a": replace(LOST, difference=Difference(None, None, None, 100))},
    ],
)
def test_groups_without_enough_users_are_not_judged(groups):
    found = gate("groups", replace(EQUAL, groups=groups))
    assert (found.verdict, found.why) == (NOT_JUDGED, "no group has 100 users who clicked (promotion.min_users)")


@pytest.mark.parametrize("seconds, verdict", [(1.0, PASSED), (1.001, FAILED), (0.1, PASSED), (None, NOT_JUDGED)])
def test_a_user_may_take_so_many_times_as_long(seconds, verdict):
    assert gate("seconds/user", challenger(seconds_per_user=seconds)).verdict == verdict


def test_a_champion_that_took_no_time_is_not_compared():
    of = replace(EQUAL, champion=replace(SAME, seconds_per_user=0.0))
    assert gate("seconds/user", of).verdict == NOT_JUDGED


def test_what_was_not_judged_forbids_only_where_all_gates_are_required():
    gates = judged_gates(replace(challenger(coverage=None, calibration_error=0.5), groups={}), BOUNDS)
    assert failures(gates, require_all=True) == ["calibration", "coverage", "groups"]
    assert failures(gates, require_all=False) == ["calibration"]


def test_each_gate_is_a_line_with_figures_bound_and_reason():
    of = Compared(
        SAME, challenger(calibration_error=None, seconds_per_user=0.0012).challenger, Difference(0, -0.5, 0.5, 8)
    )
    heading, ndcg, calibration, coverage, groups, seconds = gate_lines(judged_gates(of, BOUNDS))
    assert heading.split() == "gate champion challenger difference [95 % interval] bound verdict".split()
    assert ndcg.split("  ")[0] == "ndcg"
    assert "0.6000    0.6000      +0.0000 [-0.5000, +0.5000]  low >= -0.01  not judged: 8 users" in ndcg
    assert "0.0100    –           –" in calibration
    assert coverage.endswith(">= -0.05      passed")
    assert "failed: the champion gives p_click" in calibration
    assert groups.startswith("groups        –")
    assert "0.5000    0.0012      x 0.00" in seconds


def test_the_numbers_of_gates_are_those_that_are_known():
    numbers = gate_numbers(judged_gates(challenger(coverage=None), BOUNDS))
    assert numbers["ndcg.low"] == -0.005
    assert numbers["seconds_per_user.difference"] == 1.0
    assert (numbers["coverage.champion"], numbers["coverage.passed"]) == (0.8, 0.0)
    assert not {"coverage.challenger", "coverage.difference", "calibration.low"} & set(numbers)
