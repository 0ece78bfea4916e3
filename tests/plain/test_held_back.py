"""Scorers on lists that were held back: values, paired differences over people, calibration."""

import numpy as np
import pytest

from llmrec_spark.held_back import BINS, calibration, judge
from llmrec_spark.metrics import one_list

OPTIONS = {"k": 10, "replicates": 200, "seed": 1}


@pytest.fixture(scope="module")
def lists():
    """300 lists of 8 ads of 100 people: clicked, lists, users, and a score that says something of the clicks."""
    rng = np.random.default_rng(4)
    number = np.repeat(np.arange(300), 8)
    taste = rng.normal(size=len(number))
    clicked = rng.random(len(number)) < 1 / (1 + np.exp(1.5 - taste))
    return clicked, number, np.array([f"u{one % 100}" for one in number]), taste + rng.normal(size=len(number))


def test_values_are_means_over_lists_with_a_click_and_without_one(lists):
    clicked, number, users, score = lists
    found = judge({"score": score}, clicked, number, users, pairs=[], **OPTIONS)
    of_list = [number == one for one in np.unique(number)]
    mixed = [one for one in of_list if 0 < clicked[one].sum() < 8]
    assert found.lists == len(mixed)
    assert found.values["score"]["ndcg"].value == pytest.approx(
        np.mean([one_list("ndcg", score[one], clicked[one]) for one in mixed])
    )


def test_a_difference_is_paired_and_its_interval_holds_it(lists):
    clicked, number, users, score = lists
    other = score + np.random.default_rng(1).normal(size=len(score))
    found = judge(
        {"score": score, "other": other},
        clicked,
        number,
        users,
        pairs=[("score", "other"), ("score", "score")],
        **OPTIONS,
    )
    step = found.differences["score", "other"]["ndcg"]
    assert step.value == pytest.approx(found.values["score"]["ndcg"].value - found.values["other"]["ndcg"].value)
    assert 0 < step.low < step.value < step.high
    assert found.differences["score", "score"]["ndcg"] == (0.0, 0.0, 0.0)


def test_the_order_of_people_changes_nothing(lists):
    clicked, number, users, score = lists
    back = slice(None, None, -1)
    found = judge({"score": score}, clicked, number, users, pairs=[], **OPTIONS)
    turned = judge({"score": score[back]}, clicked[back], 299 - number[back], users[back], pairs=[], **OPTIONS)
    for one, other in zip(found.values["score"]["ndcg"], turned.values["score"]["ndcg"], strict=True):
        assert one == pytest.approx(other)


def test_true_probabilities_are_calibrated_and_halved_ones_are_not():
    rng = np.random.default_rng(2)
    truth = rng.uniform(0, 0.4, 60_000)
    happened = rng.random(len(truth)) < truth
    right, wrong = calibration(truth, happened), calibration(truth / 2, happened)
    assert right.error < 0.01
    assert wrong.error == pytest.approx(0.1, abs=0.01)
    assert right.log_loss < wrong.log_loss
    assert right.points.shape == (BINS, 2)
    assert (right.predicted, right.observed) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.2, abs=0.01))


def test_what_has_no_probability_is_not_judged():
    happened = np.array([True, False, True])
    assert calibration(np.full(3, np.nan), happened).rows == 0
    some = calibration(np.array([np.nan, 0.5, 0.7]), happened)
    assert (some.rows, some.observed, some.predicted) == (2, 0.5, pytest.approx(0.6))


def test_nothing_held_back_has_no_figures():
    found = calibration(np.zeros(0), np.zeros(0, dtype=bool))
    assert found.rows == 0
    assert np.isnan(found.error)
