"""From matches to ordered lists: the untrained score, the best ads of a block, and lists under caps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

MIN_SIGMA = 1e-6  # a smaller spread says nothing: lift is 0
SLACK = 2e-5  # relative; more than rounding to 6 significant digits can move a score


class AdFigures(NamedTuple):
    """What is known of A ads besides their text, each (A,) float64."""

    rate: np.ndarray
    background: np.ndarray  # NaN without text
    sigma: float  # NaN where nobody has a usable history


class Scores(NamedTuple):
    """Each (U, A) float64. score is what a list is ordered by; NaN where an ad cannot be ordered."""

    lift: np.ndarray
    log_odds: np.ndarray
    score: np.ndarray


def untrained_scores(match: np.ndarray, figures: AdFigures, *, beta: float, by_match: np.ndarray) -> Scores:
    """lift = (match - background) / sigma, log_odds = logit(rate) + beta lift, for match (U, A) with NaN for none.

    Lift is 0 without a match. Lists are ordered by log_odds, those of users in by_match (U,) bool by match.
    """
    if figures.sigma >= MIN_SIGMA:  # false for NaN too
        lift = np.nan_to_num((match - figures.background) / figures.sigma, nan=0.0)
    else:
        lift = np.zeros_like(match)
    log_odds = np.log(figures.rate / (1.0 - figures.rate)) + beta * lift
    return Scores(lift, log_odds, np.where(by_match[:, None], match, log_odds))


def significant(values: np.ndarray) -> np.ndarray:
    """Rounded to 6 significant digits, half to even."""
    size = np.abs(values)
    digits = 5.0 - np.floor(np.log10(np.where(size > 0, size, 1.0)))  # after the point
    up, down = 10.0 ** np.maximum(digits, 0.0), 10.0 ** np.maximum(-digits, 0.0)  # whole: 1e-5 has no exact double
    return np.asarray(np.round(values * up / down) / up * down)


def best_first(users: np.ndarray, ads: np.ndarray, score: np.ndarray, log_odds: np.ndarray) -> np.ndarray:
    """The order, (n,) int, of pairs of a user and an ad: by user, then from the best ad of each.

    Best is by score, then log_odds, each to 6 significant digits, then the ad's place.
    """
    return np.lexsort((ads, -significant(log_odds), -significant(score), users))


def keep_best(scores: Scores, shown: np.ndarray, keep: int) -> tuple[np.ndarray, np.ndarray]:
    """Users and ads (n,) of the `keep` best of each user among those `shown` (U, A) with a finite score, best first."""
    score = np.where(shown & np.isfinite(scores.score), scores.score, -np.inf)
    if keep < score.shape[1]:
        last = np.partition(score, -keep, axis=1)[:, -keep]  # of the unrounded ones: what may tie with it stays
        users, ads = np.nonzero((score >= (last - np.abs(last) * SLACK)[:, None]) & (score > -np.inf))
    else:
        users, ads = np.nonzero(score > -np.inf)
    order = best_first(users, ads, score[users, ads], scores.log_odds[users, ads])
    users, ads = users[order], ads[order]
    first = np.searchsorted(users, np.arange(len(score)))
    kept = np.arange(len(users)) - first[users] < keep
    return users[kept], ads[kept]


def fill_lists(
    offsets: np.ndarray, groups: np.ndarray | Sequence[np.ndarray], caps: Sequence[int | None], length: int
) -> np.ndarray:
    """Which rows make the list of each user, (n,) bool: greedily in order, at most caps[k] rows of one group.

    offsets (U + 1,): user u owns rows offsets[u] to offsets[u + 1], best first. groups[k] (n,) int, -1 for no group,
    which is not capped. All users go forward one row at a time, together.
    """
    users = len(offsets) - 1
    capped = [(group, cap) for group, cap in zip(groups, caps, strict=True) if cap is not None]
    chosen = [np.full((users, length), -2, dtype=np.int64) for _ in capped]
    filled = np.zeros(users, dtype=np.int64)
    taken = np.zeros(int(offsets[-1]), dtype=bool)
    for step in range(int(np.diff(offsets).max(initial=0))):
        row = offsets[:-1] + step
        open_users = np.flatnonzero((row < offsets[1:]) & (filled < length))
        if not len(open_users):
            break
        row = row[open_users]
        fits = np.ones(len(row), dtype=bool)
        for (group, cap), members in zip(capped, chosen, strict=True):
            same = (members[open_users] == group[row, None]).sum(axis=1)
            fits &= (group[row] < 0) | (same < cap)
        winners, row = open_users[fits], row[fits]
        for (group, _), members in zip(capped, chosen, strict=True):
            members[winners, filled[winners]] = group[row]
        taken[row] = True
        filled[winners] += 1
    return taken
