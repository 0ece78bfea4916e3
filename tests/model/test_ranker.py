from collections import Counter
from itertools import pairwise
from math import log

import numpy as np
import pytest

from llmrec_spark.model.ranker import AdFigures, Scores, fill_lists, keep_best, significant, untrained_scores

NAN = float("nan")
NOBODY, EVERYBODY = np.array([False]), np.array([True])


def scored(match, *, rate=(0.5, 0.2), background=(0.1, 0.3), sigma=0.2, beta=0.5, by_match=NOBODY):
    figures = AdFigures(np.array(rate), np.array(background), sigma)
    return untrained_scores(np.array([match], dtype=float), figures, beta=beta, by_match=by_match)


def test_lift_is_the_match_above_its_background_in_sigmas():
    np.testing.assert_allclose(scored([0.5, 0.2]).lift, [[2.0, -0.5]])


def test_log_odds_are_those_of_the_rate_plus_beta_lift():
    np.testing.assert_allclose(scored([0.5, 0.2]).log_odds, [[0.0 + 1.0, log(0.25) - 0.25]])


def test_lists_are_ordered_by_log_odds():
    scores = scored([0.5, 0.2])
    np.testing.assert_array_equal(scores.score, scores.log_odds)


@pytest.mark.parametrize("match, background", [((NAN, NAN), (0.1, 0.3)), ((0.5, 0.2), (NAN, NAN))])
def test_without_match_or_background_lift_is_0(match, background):
    scores = scored(match, background=background)
    np.testing.assert_array_equal(scores.lift, [[0.0, 0.0]])
    np.testing.assert_allclose(scores.score, [[0.0, log(0.25)]])


@pytest.mark.parametrize("sigma", [NAN, 0.0, 0.9e-6])
def test_a_spread_that_says_nothing_gives_no_lift(sigma):
    np.testing.assert_array_equal(scored([0.5, 0.2], sigma=sigma).lift, [[0.0, 0.0]])


def test_the_smallest_spread_that_counts_gives_a_lift():
    np.testing.assert_allclose(scored([0.1 + 1e-6, 0.3], sigma=1e-6).lift, [[1.0, 0.0]], rtol=1e-6)


def test_by_match_orders_by_match_and_leaves_out_what_has_none():
    np.testing.assert_array_equal(scored([0.2, NAN], by_match=EVERYBODY).score, [[0.2, NAN]])


def test_users_who_cannot_be_ordered_by_match_are_ordered_by_log_odds():
    figures = AdFigures(np.array([0.5]), np.array([0.0]), 1.0)
    scores = untrained_scores(np.array([[0.7], [NAN]]), figures, beta=1.0, by_match=np.array([True, False]))
    np.testing.assert_allclose(scores.score, [[0.7], [0.0]])


def test_by_match_changes_neither_lift_nor_log_odds():
    plain, uniform = scored([0.5, 0.2]), scored([0.5, 0.2], by_match=EVERYBODY)
    np.testing.assert_array_equal(plain.lift, uniform.lift)
    np.testing.assert_array_equal(plain.log_odds, uniform.log_odds)


def test_significant_keeps_6_digits():
    found = significant(np.array([1.2345678, -0.00123456789, 1234567.0, 0.0, 2.5e-12]))
    assert found.tolist() == [1.23457, -0.00123457, 1234570.0, 0.0, 2.5e-12]


def test_numbers_of_the_same_6_digits_become_the_same_number():
    rng = np.random.default_rng(0)
    near = np.concatenate([10.0**power * (1 + rng.uniform(-6e-6, 6e-6, 50)) for power in range(-12, 13)])
    values = np.concatenate([near, rng.lognormal(0, 5, 2_000)]) * rng.choice([-1, 1], 3_250)
    np.testing.assert_array_equal(significant(values), [float(f"{value:.5e}") for value in values])


# The best of each user


def slow_keep_best(scores, shown, keep):
    found = []
    for user in range(len(shown)):
        ads = [ad for ad in range(shown.shape[1]) if shown[user, ad] and np.isfinite(scores.score[user, ad])]
        rounded = {ad: [-float(f"{part[user, ad]:.5e}") for part in (scores.score, scores.log_odds)] for ad in ads}
        found += [(user, ad) for ad in sorted(ads, key=lambda ad: (*rounded[ad], ad))[:keep]]
    return found


def best(score, *, log_odds=None, shown=None, keep=2):
    score = np.array([score], dtype=float)
    log_odds = score if log_odds is None else np.array([log_odds], dtype=float)
    seen = np.ones(score.shape, dtype=bool) if shown is None else np.array([shown], dtype=bool)
    return keep_best(Scores(np.zeros_like(score), log_odds, score), seen, keep)[1].tolist()


@pytest.mark.parametrize("keep", [1, 3, 8, 50])
@pytest.mark.parametrize("seed", range(8))
def test_the_best_are_those_of_a_slow_sort(seed, keep):
    rng = np.random.default_rng(seed)
    score = rng.choice([*rng.normal(size=4), 1.0, 1.0 + 1e-8, NAN, -np.inf], (12, 8))
    score[0], score[1] = NAN, 2.0
    log_odds, shown = rng.choice([0.0, 1.0], score.shape), rng.random(score.shape) < 0.8
    scores = Scores(np.zeros_like(score), log_odds, score)
    found = [tuple(pair) for pair in np.transpose(keep_best(scores, shown, keep)).tolist()]
    assert found == slow_keep_best(scores, shown, keep)


def test_the_best_come_first():
    assert best([0.1, 0.3, 0.2]) == [1, 2]


def test_ties_go_to_the_larger_log_odds_and_then_to_the_first_ad():
    assert best([1.0, 1.0, 1.0], log_odds=[0.0, 0.0, 0.5]) == [2, 0]


def test_a_difference_below_6_digits_is_a_tie():
    assert best([1.0, 1.0 + 1e-9, 0.5], keep=1) == [0]


def test_a_score_that_is_not_finite_is_never_among_the_best():
    assert best([NAN, 1.0, np.inf, -np.inf], keep=4) == [1]


def test_an_ad_that_must_not_be_shown_makes_room_for_the_next():
    assert best([0.3, 0.2, 0.1], shown=[False, True, True]) == [1, 2]


@pytest.mark.parametrize("keep", [3, 4, 100])
def test_keeping_more_than_there_are_keeps_all(keep):
    assert best([0.1, 0.3, 0.2], keep=keep) == [1, 2, 0]


@pytest.mark.parametrize("shape", [(0, 3), (3, 0)])
def test_no_user_or_no_ad_keeps_nothing(shape):
    users, ads = keep_best(Scores(*[np.zeros(shape)] * 3), np.ones(shape, dtype=bool), 2)
    assert users.tolist() == ads.tolist() == []


# Lists under caps


def slow_fill_lists(offsets, groups, caps, length):
    taken = []
    for start, end in pairwise(offsets):
        chosen = []
        for row in range(start, end):
            counts = [Counter(group[i] for i in chosen) for group in groups]
            full = [
                cap is not None and group[row] >= 0 and count[group[row]] >= cap
                for group, cap, count in zip(groups, caps, counts, strict=True)
            ]
            if len(chosen) < length and not any(full):
                chosen.append(row)
        taken += chosen
    return taken


def filled(groups, caps, *, length=10, offsets=None):
    arrays = [np.array(group) for group in groups]
    ends = np.array([0, len(arrays[0])]) if offsets is None else np.array(offsets)
    return np.flatnonzero(fill_lists(ends, arrays, caps, length)).tolist()


@pytest.mark.parametrize("caps", [(1, 2), (2, None), (None, None), (3, 1)])
@pytest.mark.parametrize("seed", range(6))
def test_lists_are_those_of_a_slow_greedy_choice(seed, caps):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(0, 15, 9))])
    groups = [rng.integers(-1, 4, offsets[-1]) for _ in caps]
    length = int(rng.integers(1, 8))
    assert filled(groups, caps, length=length, offsets=offsets) == slow_fill_lists(offsets, groups, caps, length)


def test_a_group_gives_as_many_rows_as_its_cap():
    assert filled([[7, 7, 7, 8]], [2]) == [0, 1, 3]


def test_rows_of_no_group_are_not_capped():
    assert filled([[-1, -1, -1]], [1]) == [0, 1, 2]


def test_without_a_cap_the_first_rows_are_taken():
    assert filled([[7, 7, 7]], [None], length=2) == [0, 1]


def test_a_list_goes_on_past_capped_rows_until_it_is_full():
    assert filled([[7, 7, 7, 8, 9]], [1], length=2) == [0, 3]


def test_a_row_refused_by_one_cap_counts_for_no_other():
    assert filled([[1, 1, 2], [5, 6, 6]], [1, 1]) == [0, 2]


def test_the_groups_of_one_user_do_not_count_for_another():
    assert filled([[7, 7, 7]], [1], offsets=[0, 1, 1, 3]) == [0, 1]


@pytest.mark.parametrize("offsets", [[0], [0, 0, 0]])
def test_no_user_and_no_row_give_no_list(offsets):
    assert filled([[]], [1], offsets=offsets) == []
