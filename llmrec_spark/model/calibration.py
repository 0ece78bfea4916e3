"""Scores become probabilities: what happened, regressed on them, and a rising curve on top where one is asked for.

Platt, "Probabilistic outputs for support vector machines", 1999. In a log without impressions an ad acted on stands
beside drawn ones, k for each, an ad drawn with chance q: there p_click is the chance that an act of the user is on the
ad, and the odds in the sample are k q times smaller (King and Zeng, "Logistic regression in rare events data", 2001).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from scipy.optimize import minimize  # type: ignore[import-untyped]

from llmrec_spark.model.count_effects import count_effects
from llmrec_spark.model.isotonic import isotonic_knots
from llmrec_spark.model.item_effect import sigmoid
from llmrec_spark.model.taste_ranker import P_CLICK, P_CONVERSION, TasteRanker
from llmrec_spark.model.training_sample import Examples, Totals

if TYPE_CHECKING:
    from llmrec_spark.model.example_scores import Scored

FOLDS = 5  # of users, to whose conversions an ad's others count


def calibrated(
    ranker: TasteRanker,
    scored: Scored,
    examples: Examples,
    of_ad: np.ndarray,
    method: Literal["platt", "isotonic"],
) -> TasteRanker:
    """The ranker with its probabilities: p_click by the examples held back for it, or else by those that it learned
    from, p_conversion by every click of either of which it is known what followed.

    of_ad (n,) as conversion_effects has it. Without a conversion p_conversion stays None.
    """
    judged = examples.calibrates if examples.calibrates.any() else examples.trains
    place = ranker.position(examples.position) - ranker.position(np.ones(1))
    intercept, slope, of_position, of_rerank = logistic(
        np.column_stack([scored.log_odds - scored.moved, place, scored.moved])[judged],
        examples.clicked[judged],
        start=(0.0, 1.0, 1.0, 1.0),
        lowest=(0.0, 0.0, 0.0),
        offset=draw_offset(examples, judged)[judged],
    )
    ranker = replace(ranker, p_click=(slope, intercept, of_position, of_rerank))
    known = (examples.trains | examples.calibrates) & ~np.isnan(examples.converted) & examples.clicked
    if (examples.converted[known] > 0).any():
        found = logistic(
            np.column_stack([of_ad, scored.taste])[known],
            examples.converted[known],
            start=(ranker.conversion.base, 1.0, 0.0),
            lowest=(0.0, -np.inf),
        )
        ranker = replace(ranker, p_conversion=(found[0], found[1], found[2]))
    if method == "platt" or examples.were_drawn or not examples.calibrates.any():
        return ranker
    held, known = examples.calibrates, examples.calibrates & known
    p_click = ranker.clicks(scored.log_odds[held], examples.position[held], moved=scored.moved[held])
    p_conversion = ranker.conversions(of_ad[known], scored.taste[known])
    curves = {
        P_CLICK: isotonic_knots(p_click, examples.clicked[held]),
        P_CONVERSION: isotonic_knots(p_conversion, examples.converted[known] > 0),
    }
    return replace(ranker, curves=curves)


def conversion_effects(
    ranker: TasteRanker, features: np.ndarray, priors: np.ndarray, examples: Examples, totals: Totals
) -> np.ndarray:
    """b' of the ad of each example, (n,). One that trains is told only what the clicks of other FOLDS of users led to.

    features (I, P) and priors (I,) as learn_effect_model reads and gives them, of conversions
    """
    found = ranker.conversion.effects(features, totals.settled, totals.conversions)[examples.item]
    known = examples.trains & examples.clicked & ~np.isnan(examples.converted)
    for fold in range(FOLDS):
        theirs = examples.trains & (examples.user % FOLDS == fold)
        own = [
            np.bincount(examples.item[known & theirs], weights, len(priors))
            for weights in (None, examples.converted[known & theirs])
        ]
        settled, converted = np.maximum(totals.settled - own[0], 0.0), np.maximum(totals.conversions - own[1], 0.0)
        model = ranker.conversion
        others = count_effects(settled, converted, priors, base=model.base, spread=model.spread)
        found[theirs] = others[examples.item[theirs]]
    return np.asarray(found)


def draw_offset(examples: Examples, rows: np.ndarray) -> np.ndarray:
    """(n,) log-odds that an example has for being among drawn ones; 0 where the log says what was shown.

    rows (n,) bool: the sample that is meant, which says how many were drawn for each that was acted on.
    """
    if not examples.were_drawn:
        return np.zeros(len(examples.item))
    acted = examples.clicked[rows].sum()
    return np.asarray(-examples.log_draw - np.log(max(rows.sum() - acted, 1) / max(acted, 1)))


def in_sample(p_click: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """(n,) the chance of a click among drawn ads, by draw_offset; p_click itself where that is 0."""
    with np.errstate(divide="ignore"):
        return np.asarray(sigmoid(np.log(p_click) - np.log1p(-p_click) + offset))


def logistic(
    features: np.ndarray,
    target: np.ndarray,
    *,
    start: tuple[float, ...],
    lowest: tuple[float, ...] | None = None,
    offset: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Intercept and weights (P + 1,) of a logistic regression, features (n, P), target (n,) 0 or 1, from `start`.

    One example's worth of belief in `start` keeps a target of one kind finite. No weight is below its `lowest`.
    offset (n,) is added to the log-odds.
    """
    design, first = np.column_stack([np.ones(len(features)), features]), np.array(start, dtype=np.float64)

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds, away = design @ weights + offset, weights - first
        value = np.logaddexp(0.0, log_odds).sum() - log_odds @ target + 0.5 * away @ away
        gradient = design.T @ (sigmoid(log_odds) - target) + away
        return float(value) / scale, gradient / scale

    scale, below = float(max(len(design), 1)), (-np.inf, *(lowest or (-np.inf,) * (len(start) - 1)))
    bounds = [(None if low == -np.inf else low, None) for low in below]
    options = {"maxiter": 1_000, "ftol": 1e-15, "gtol": 1e-10}
    return np.asarray(minimize(loss, first, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x)
