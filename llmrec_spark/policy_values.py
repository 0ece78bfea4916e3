"""What another ranking would have earned, estimated from a log with propensities, on arrays; and when not to say it.

A row is an impression: its reward, the probability with which the log put that ad at that position (propensity), and
the probability with which the other ranking would have. weight = the second / the first. The item-position model (Li
et al., "Offline evaluation of ranking policies with click models", KDD 2018) is assumed: a click depends on the ad and
its position, not on the ads around it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from llmrec_spark.evaluation_config import OffPolicyConfig

ESTIMATES = ("ips", "snips", "clipped_ips", "dm", "dr")
TOP = 100  # one in so many of the rows with weight, the heaviest, tell how the weights end


@dataclass(frozen=True)
class WeightFigures:
    """What there is to estimate from: rows of the log, and how the weights spread over those that can be used."""

    rows: int  # impressions of the log
    unknown: int  # of these, without a propensity in (0, 1] or without a position
    unlisted: int  # of the others, where the other ranking shows nothing
    impossible: int  # where it shows an ad that the log could not have shown there
    weight: float  # sum over the rows that are left
    effective_sample: float
    effective_clicks: float  # the same of the rewards by weight
    largest: float  # weight of a row
    top_share: float  # of all weight, on the heaviest of the rows with weight, one in TOP

    @property
    def used(self) -> int:
        """Rows that are left to estimate from."""
        return self.rows - self.unknown - self.unlisted - self.impossible

    @property
    def support(self) -> float:
        """Of the rows where the other ranking shows an ad, the share where the log could have; NaN without any."""
        listed = self.used + self.impossible
        return self.used / listed if listed else float("nan")

    @property
    def largest_share(self) -> float:
        """Of all weight, that of the heaviest row; NaN without any."""
        return self.largest / self.weight if self.weight else float("nan")


def policy_values(
    weights: np.ndarray, rewards: np.ndarray, expected: np.ndarray, expected_of_policy: np.ndarray, *, clip: float
) -> dict[str, float]:
    """ESTIMATES of the mean reward of a row under the other ranking, all arrays (n,).

    expected            what a model says the logged ad earns there
    expected_of_policy  what it says the other ranking earns there: its mean over the ads that might be shown

    ips          mean of weight x reward (Horvitz and Thompson, 1952): unbiased where all has support
    snips        the same over the sum of weights (Swaminathan and Joachims, "The self-normalized estimator", 2015)
    clipped_ips  ips with weights of at most `clip` (Ionides, "Truncated importance sampling", 2008): too low, if stable
    dm           mean of expected_of_policy: as right as the model
    dr           dm + mean of weight x (reward - expected) (Dudik et al., "Doubly robust policy evaluation", 2011)
    """
    n, earned = len(weights), weights * rewards
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "ips": float(np.divide(earned.sum(), n)),
            "snips": float(np.divide(earned.sum(), weights.sum())),
            "clipped_ips": float(np.divide((np.minimum(weights, clip) * rewards).sum(), n)),
            "dm": float(np.divide(expected_of_policy.sum(), n)),
            "dr": float(np.divide((expected_of_policy + weights * (rewards - expected)).sum(), n)),
        }


def effective_sample(weights: np.ndarray) -> float:
    """How many rows of equal weight say as much (Kish, "Survey sampling", 1965); 0 without weight."""
    squares = float((weights**2).sum())
    return float(weights.sum()) ** 2 / squares if squares else 0.0


def top_share(weights: np.ndarray, counts: np.ndarray) -> float:
    """Of all weight, the share of the heaviest rows, one in TOP, rounded up: (m,) weights > 0, of counts (m,) rows."""
    heaviest = np.argsort(-weights, kind="stable")
    weights, counts = weights[heaviest], counts[heaviest]
    above = np.cumsum(counts) - counts
    of_top = np.clip(np.ceil(counts.sum() / TOP) - above, 0, counts)
    total = float(weights @ counts)
    return float(weights @ of_top) / total if total else float("nan")


def weight_figures(weights: np.ndarray, rewards: np.ndarray) -> WeightFigures:
    """The figures of a log whose rows can all be used: (n,) weights and rewards."""
    heavy = weights[weights > 0]
    return WeightFigures(
        rows=len(weights),
        unknown=0,
        unlisted=0,
        impossible=0,
        weight=float(weights.sum()),
        effective_sample=effective_sample(weights),
        effective_clicks=effective_sample(weights * rewards),
        largest=float(weights.max(initial=0.0)),
        top_share=top_share(heavy, np.ones(len(heavy))),
    )


def refusal(figures: WeightFigures, mean_weight: tuple[float, float], bounds: OffPolicyConfig) -> str | None:
    """Why no value is given, in one sentence; None where nothing stands against it.

    mean_weight  its 95 % interval: 1 is expected where the log could have shown all that the other ranking shows
    """
    of = figures
    if of.unknown == of.rows:
        return "The log has no propensities."
    if of.unknown > bounds.max_unknown_share * of.rows:
        found = f"{of.unknown:,} of {of.rows:,} impressions have no propensity in (0, 1] or no position"
        return f"{found}, at most {bounds.max_unknown_share:.0%} may."
    if not of.used + of.impossible:
        return f"It shows nothing at any of the {of.rows:,} positions that were logged."
    low, high = mean_weight
    wrong = []
    if of.support < bounds.min_support:
        found = f"the log could have shown its ads at {of.support:.1%} of the positions"
        wrong.append(f"{found}, {bounds.min_support:.0%} are needed")
    if of.effective_sample < bounds.min_effective_sample:
        found = f"the effective sample is {of.effective_sample:,.0f} of {of.used:,} rows"
        wrong.append(f"{found}, {bounds.min_effective_sample:,.0f} are needed")
    if of.effective_clicks < bounds.min_effective_clicks:
        found = f"the effective number of clicks is {of.effective_clicks:,.0f}"
        wrong.append(f"{found}, {bounds.min_effective_clicks:,.0f} are needed")
    if of.largest_share > bounds.max_weight_share:
        found = f"the largest weight, {of.largest:,.0f}, is {of.largest_share:.0%} of all weight"
        wrong.append(f"{found}, at most {bounds.max_weight_share:.0%} may be on one row")
    if high < bounds.min_support or low > 1 / bounds.min_support:
        found = f"the mean weight is between {low:.3g} and {high:.3g} instead of 1"
        wrong.append(f"{found}: it shows what the log never could, or propensities are not those of the log")
    if not wrong:
        return None
    sentence = "; ".join(wrong)
    return f"{sentence[0].upper()}{sentence[1:]}."
