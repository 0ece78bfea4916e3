from itertools import pairwise, permutations
from math import isnan, log2

import numpy as np
import pytest
from sklearn.metrics import ndcg_score, roc_auc_score

from llmrec_spark.metrics import auc, expected_random_ndcg, ndcg_at_k

NAN = float("nan")


def array(*values):
    return np.array(values, dtype=float)


def clicked(*values):
    return np.array(values, dtype=bool)


def without_nan(scores):
    return [float("-inf") if isnan(score) else score for score in scores]


def orders(scores):
    """Every order of the places that sorts by score, best first; NaN is worst."""
    value = without_nan(scores)
    return [o for o in permutations(range(len(value))) if all(value[a] >= value[b] for a, b in pairwise(o))]


def slow_ndcg(scores, relevant, k):
    """Mean over all orders of the ties."""
    ideal = sum(1 / log2(rank + 2) for rank in range(min(k, sum(relevant))))
    gains = [sum(1 / log2(rank + 2) for rank, i in enumerate(o[:k]) if relevant[i]) for o in orders(scores)]
    return np.mean(gains) / ideal


def slow_auc(scores, relevant):
    value = without_nan(scores)
    hits = [one for one, hit in zip(value, relevant, strict=True) if hit]
    misses = [one for one, hit in zip(value, relevant, strict=True) if not hit]
    return np.mean([1.0 if a > b else 0.5 if a == b else 0.0 for a in hits for b in misses])


def tied_list(seed, n):
    """Scores of few distinct values, some NaN, with at least one hit and one miss."""
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.0, 1.0, 2.0, NAN], n)
    relevant = rng.random(n) < 0.4
    relevant[:2] = True, False
    return scores, relevant


@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("seed", range(10))
def test_ndcg_is_the_mean_over_all_orders_of_the_ties(seed, k):
    scores, relevant = tied_list(seed, 6)
    assert ndcg_at_k(scores, relevant, k) == pytest.approx(slow_ndcg(scores, relevant, k), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_ndcg_agrees_with_scikit_learn_on_tied_lists(seed):
    scores, relevant = tied_list(seed, 30)
    scores = np.nan_to_num(scores, nan=-1.0)
    assert ndcg_at_k(scores, relevant, 10) == pytest.approx(ndcg_score([relevant], [scores], k=10), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_auc_counts_the_pairs_in_the_right_order(seed):
    scores, relevant = tied_list(seed, 9)
    assert auc(scores, relevant) == pytest.approx(slow_auc(scores, relevant), abs=1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_auc_agrees_with_scikit_learn_on_tied_lists(seed):
    scores, relevant = tied_list(seed, 40)
    scores = np.nan_to_num(scores, nan=-1.0)
    assert auc(scores, relevant) == pytest.approx(roc_auc_score(relevant, scores), abs=1e-12)


@pytest.mark.parametrize("metric", [auc, lambda s, r: ndcg_at_k(s, r, 10)])
@pytest.mark.parametrize("relevant", [clicked(), clicked(0, 0)], ids=["empty", "no hit"])
def test_a_list_without_a_hit_has_no_metric(metric, relevant):
    assert isnan(metric(np.zeros(len(relevant)), relevant))


def test_a_list_of_hits_has_the_best_ndcg_in_any_order():
    assert ndcg_at_k(array(1, NAN, 3), clicked(1, 1, 1), 10) == pytest.approx(1.0)


def test_a_list_of_hits_has_no_auc():
    assert isnan(auc(array(1, 2), clicked(1, 1)))


@pytest.mark.parametrize("k, expected", [(1, 0.0), (2, 1 / log2(3)), (9, 1 / log2(3))])
def test_ndcg_looks_at_the_first_k_or_at_all_there_are(k, expected):
    assert ndcg_at_k(array(2, 1), clicked(0, 1), k) == pytest.approx(expected)


def test_a_nan_score_ranks_below_the_lowest_score():
    assert auc(array(NAN, -1e300), clicked(0, 1)) == 1.0


def test_a_nan_score_ties_with_the_other_nan_scores():
    assert auc(array(NAN, 1, NAN), clicked(1, 1, 0)) == 0.75


def test_an_infinite_score_is_a_score():
    assert auc(array(float("inf"), 1), clicked(1, 0)) == 1.0


@pytest.mark.parametrize("metric", [auc, lambda s, r: ndcg_at_k(s, r, 3)])
def test_the_order_of_the_rows_is_moot(metric):
    scores, relevant = tied_list(3, 12)
    backwards = metric(scores[::-1], relevant[::-1])
    assert metric(scores, relevant) == pytest.approx(backwards, abs=1e-12)


def test_scores_that_differ_in_their_last_bit_do_not_tie():
    assert auc(array(1.0, np.nextafter(1.0, 2.0)), clicked(0, 1)) == 1.0


@pytest.mark.parametrize("n, k, hits", [(5, 2, 2), (5, 9, 1), (4, 3, 4)])
def test_random_order_has_the_mean_ndcg_of_all_permutations(n, k, hits):
    relevant = np.arange(n) < hits
    of_orders = [ndcg_at_k(np.array(order, dtype=float), relevant, k) for order in permutations(range(n))]
    assert expected_random_ndcg(n, k, hits) == pytest.approx(np.mean(of_orders), abs=1e-12)


def test_the_random_expectation_of_no_hit_is_not_a_number():
    assert isnan(expected_random_ndcg(5, 3, 0))
