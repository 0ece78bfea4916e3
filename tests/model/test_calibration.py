"""Scores become probabilities, on worlds whose chances are known."""

from dataclasses import replace

import numpy as np
import pytest

from llmrec_spark.model.calibration import calibrated, conversion_effects, draw_offset, in_sample, logistic
from llmrec_spark.model.count_effects import learn_effect_model
from llmrec_spark.model.example_scores import Scored
from llmrec_spark.model.item_effect import sigmoid
from llmrec_spark.model.taste_ranker import open_taste_ranker
from llmrec_spark.model.training_sample import Examples, Totals


def logit(p):
    return np.log(p / (1 - p))


def of_rows(item, clicked, *, user=None, converted=None, trains=True, log_draw=None):
    """Examples of lists of one ad each, all of which train, or else are held back."""
    n, nothing = len(item), np.zeros(len(item))
    return Examples(
        list=np.arange(n),
        user=np.arange(n) if user is None else user,
        item=item,
        position=np.ones(n),
        clicked=clicked,
        converted=np.where(clicked, 0.0, np.nan) if converted is None else converted,
        shown=nothing,
        clicks=nothing,
        trains=np.full(n, trains),
        calibrates=np.full(n, not trains),
        log_draw=nothing if log_draw is None else log_draw,
    )


def scored_as(log_odds):
    nothing = 0.0 * log_odds
    return Scored(log_odds, log_odds, nothing, log_odds, nothing, {})


def test_a_line_is_found():
    x = np.linspace(-2, 2, 4_000)
    target = np.random.default_rng(2).random(4_000) < sigmoid(0.3 + 1.5 * x)
    np.testing.assert_allclose(logistic(x[:, None], target, start=(0.0, 1.0)), [0.3, 1.5], atol=0.15)


@pytest.mark.parametrize("gap", [-8.0, -5.0, 0.0, 5.0])
@pytest.mark.parametrize("spread", [0.3, 3.0])
def test_scores_far_from_what_happened_are_moved_there(gap, spread):
    """Steps of Newton's method jump to and fro here."""
    rng = np.random.default_rng(4)
    x = rng.normal(gap, spread, 5_000)
    target = rng.random(5_000) < sigmoid(0.4 * (x - gap) - 1.4)
    found = logistic(x[:, None], target, start=(0.0, 1.0))
    p = sigmoid(found[0] + found[1] * x)
    assert p.mean() == pytest.approx(target.mean(), abs=1e-3)
    assert found[1] == pytest.approx(0.4, abs=0.15)


def test_an_offset_is_not_learned_again():
    rng = np.random.default_rng(6)
    x, offset = rng.normal(size=(2, 20_000))
    target = rng.random(20_000) < sigmoid(-1 + 0.5 * x + 2 * offset)
    found = logistic(x[:, None], target, start=(0.0, 1.0), offset=2 * offset)
    np.testing.assert_allclose(found, [-1, 0.5], atol=0.1)


def test_a_score_that_misleads_is_taken_for_none_rather_than_turned_round():
    rng = np.random.default_rng(7)
    x = rng.normal(size=3_000)
    target = rng.random(3_000) < sigmoid(-1 - x)
    found = logistic(x[:, None], target, start=(0.0, 1.0), lowest=(0.0,))
    assert found[1] == 0.0
    assert sigmoid(found[0]) == pytest.approx(target.mean(), abs=1e-3)


def test_one_example_pulls_a_target_of_one_kind():
    found = logistic(np.zeros((50, 1)), np.zeros(50), start=(0.0, 1.0))
    assert -6 < found[0] < -1
    assert found[1] == 1.0


def purchases(ranker, spread):
    """Clicks on 300 ads whose chance of a purchase is 5 % but for `spread` log-odds: examples, totals, priors."""
    rng = np.random.default_rng(8)
    ads, n = 300, 3_000
    chance = sigmoid(logit(0.05) + spread * rng.normal(size=ads))
    item = rng.integers(0, ads, n)
    bought = (rng.random(n) < chance[item]).astype(float)
    examples = of_rows(item, np.ones(n, dtype=bool), user=rng.integers(0, 400, n), converted=bought)
    settled, conversions = (np.bincount(item, one, ads) for one in (np.ones(n), bought))
    totals = Totals(settled, settled, settled, conversions)
    features = np.zeros((ads, 1))
    model, priors = learn_effect_model(settled, conversions, features, spread=0.6)
    of_ad = conversion_effects(replace(ranker, conversion=model), features, priors, examples, totals)
    return replace(ranker, conversion=model), examples, of_ad


def test_where_ads_do_not_differ_in_conversions_what_was_bought_teaches_nothing_of_them(trained):
    """Counts that hold a row's own purchase would say that they tell it: slopes of 4 and more."""
    ranker, examples, of_ad = purchases(trained[0].ranker, 0.0)
    found = calibrated(ranker, scored_as(np.zeros(len(of_ad))), examples, of_ad, "platt")
    assert 0 <= found.p_conversion[1] < 0.6
    p = found.conversions(of_ad, np.zeros(len(of_ad)))
    assert p.mean() == pytest.approx(examples.converted.mean(), abs=2e-3)


def test_where_ads_differ_their_conversions_tell(trained):
    ranker, examples, of_ad = purchases(trained[0].ranker, 1.5)
    found = calibrated(ranker, scored_as(np.zeros(len(of_ad))), examples, of_ad, "platt")
    assert found.p_conversion[1] > 0.8


def test_an_ad_in_one_fold_of_users_is_told_by_its_text(trained):
    item, user = np.zeros(4, dtype=int), np.array([0, 5, 10, 15])
    examples = of_rows(item, np.ones(4, dtype=bool), user=user, converted=np.ones(4))
    four = np.array([4.0])
    model, _ = learn_effect_model(four, four / 2, np.zeros((1, 1)), spread=0.6)
    ranker = replace(trained[0].ranker, conversion=model)
    of_ad = conversion_effects(ranker, np.zeros((1, 1)), np.array([-0.7]), examples, Totals(four, four, four, four))
    np.testing.assert_allclose(of_ad, -0.7)


def test_nothing_is_said_of_conversions_where_none_was_seen(trained, tmp_path):
    examples = of_rows(np.zeros(40, dtype=int), np.arange(40) % 2 == 0)
    ranker = replace(trained[0].ranker, p_conversion=None)
    found = calibrated(ranker, scored_as(np.zeros(40)), examples, np.zeros(40), "platt")
    assert found.p_conversion is None
    assert np.isnan(found.conversions(np.zeros((2, 1)), np.zeros(3))).all()
    found.save(tmp_path / "ranker")
    opened = open_taste_ranker(str(tmp_path / "ranker"))
    assert opened.p_conversion is None
    assert opened.p_click == found.p_click


def test_among_drawn_ads_p_click_is_the_chance_that_an_act_is_on_the_ad(trained):
    """100 ads; acts fall on them by `chance`, and beside each act 20 are drawn by `popular`."""
    rng = np.random.default_rng(9)
    chance, popular = rng.dirichlet(np.full(100, 2.0), 2)
    acts = 4_000
    item = np.concatenate([rng.choice(100, acts, p=chance), rng.choice(100, 20 * acts, p=popular)])
    clicked = np.arange(len(item)) < acts
    examples = of_rows(item, clicked, trains=False, log_draw=np.log(popular)[item])
    found = calibrated(trained[0].ranker, scored_as(np.log(chance)[item]), examples, np.zeros(len(item)), "isotonic")
    p_click = found.clicks(np.log(chance))
    assert p_click.sum() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(p_click, chance, rtol=0.15, atol=5e-4)
    assert not found.curves
    offset = draw_offset(examples, examples.calibrates)
    assert in_sample(p_click[item], offset).mean() == pytest.approx(clicked.mean(), abs=1e-3)
