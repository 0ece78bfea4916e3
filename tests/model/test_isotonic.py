import numpy as np
import pytest

from llmrec_spark.metrics import calibration_error
from llmrec_spark.model.isotonic import FEWEST, isotonic_knots, on_knots
from llmrec_spark.model.taste_ranker import open_taste_ranker
from tests.model.small_world import SETTINGS


def pushed(n, seed):
    """Probabilities that are too sure, and what happened."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(0.05, 0.6, n)
    return truth**2, rng.random(n) < truth


def test_a_curve_mends_probabilities_that_are_wrong_in_a_rising_way():
    knots = isotonic_knots(*pushed(20_000, 0))
    predicted, happened = pushed(20_000, 1)
    for probability, most in ((predicted, np.inf), (on_knots(knots, predicted), 0.02)):
        parts = np.array_split(np.argsort(probability, kind="stable"), 15)
        sums = np.array([(probability[one].sum(), happened[one].sum(), len(one)) for one in parts])
        error = float(calibration_error(*sums.T))
        assert error < most
        assert most == 0.02 or error > 0.1


def test_knots_rise_and_the_mean_is_what_happened():
    predicted, happened = pushed(2_000, 2)
    knots = isotonic_knots(predicted, happened)
    assert (np.diff(knots[0]) > 0).all()
    assert (np.diff(knots[1]) >= 0).all()
    assert on_knots(knots, np.array([0.0, 1.0])).tolist() == [knots[1, 0], knots[1, -1]]
    assert on_knots(knots, predicted).mean() == pytest.approx(happened.mean(), abs=0.02)
    shuffled = np.random.default_rng(0).permutation(len(predicted))
    np.testing.assert_allclose(isotonic_knots(predicted[shuffled], happened[shuffled]), knots)


def test_a_run_of_one_kind_at_an_end_is_no_reason_to_be_certain():
    predicted = np.linspace(0.0, 1.0, 1_000)
    middle = np.random.default_rng(3).random(600) < np.linspace(0.2, 0.8, 600)
    happened = np.concatenate([np.zeros(200), middle, np.ones(200)]) > 0
    knots = isotonic_knots(predicted, happened)
    assert 0 < knots[1, 0] < knots[1, -1] < 1
    assert on_knots(knots, predicted).mean() == pytest.approx(happened.mean(), abs=0.02)
    low, high = isotonic_knots(predicted, predicted > 0.5)[1]  # of all of one kind beside all of the other
    assert 0 < low < 2e-3
    assert 1 - 2e-3 < high < 1
    happened = np.concatenate([np.zeros(900), np.arange(200) % 2]) > 0
    low, high = isotonic_knots(np.repeat([0.01, 0.5], [900, 200]), happened)[1]
    assert (low, high) == (pytest.approx(0.5 / 901), 0.5)


def test_too_few_of_a_kind_leave_probabilities_as_they_are():
    predicted, happened = np.linspace(0.1, 0.9, 1_000), np.arange(1_000) < FEWEST - 1
    knots = isotonic_knots(predicted, happened)
    assert knots.shape == (2, 0)
    assert on_knots(knots, predicted) is predicted


def test_a_ranker_keeps_its_curves(trained, tmp_path):
    found, examples = trained[2](SETTINGS.model_copy(update={"calibration": "isotonic"})), trained[1]
    assert found.ranker.curves["p_click"].shape[1] > 2
    found.ranker.save(tmp_path / "ranker")
    opened = open_taste_ranker(str(tmp_path / "ranker"))
    held = examples.calibrates
    given = found.scored.log_odds[held], examples.position[held]
    np.testing.assert_array_equal(opened.clicks(*given), found.ranker.clicks(*given))
    assert opened.clicks(*given).mean() == pytest.approx(examples.clicked[held].mean(), abs=5e-3)
    platt = trained[0].ranker.clicks(*given)
    assert np.corrcoef(platt, opened.clicks(*given))[0, 1] > 0.9
    assert not np.array_equal(platt, opened.clicks(*given))
