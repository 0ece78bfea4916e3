from itertools import combinations, pairwise, permutations, product
from math import isnan, log2

import numpy as np
import pytest
from sklearn.metrics import log_loss as sklearn_log_loss
from sklearn.metrics import ndcg_score, roc_auc_score

from llmrec_spark.metrics import (
    RANKING_METRICS,
    calibration_error,
    gini,
    intra_list_diversity,
    log_loss,
    one_list,
    overall_auc,
    random_gini,
    ranking_metrics,
    self_information,
    variety_metrics,
)

NAN, INF = float("nan"), float("inf")
AT_K = [name for name in RANKING_METRICS if name != "group_auc"]


def array(*values):
    return np.array(values, dtype=float)


def clicked(*values):
    return np.array(values, dtype=bool)


def orders(scores):
    """Every order of the places that sorts by score, best first; NaN is worst."""
    keys = [(isnan(score), 0.0 if isnan(score) else -score) for score in scores]
    return [o for o in permutations(range(len(keys))) if all(keys[a] <= keys[b] for a, b in pairwise(o))]


def of_order(name, hits, k, total):
    """A metric of hits in their order, as textbooks write it."""
    ranks = [rank for rank, hit in enumerate(hits, start=1) if hit]
    top = [rank for rank in ranks if rank <= k]
    if name == "group_auc":
        pairs = [(a, b) for a in ranks for b in range(1, len(hits) + 1) if not hits[b - 1]]
        return np.mean([a < b for a, b in pairs])
    return {
        "ndcg": sum(1 / log2(rank + 1) for rank in top) / sum(1 / log2(r + 1) for r in range(1, min(k, total) + 1)),
        "map": sum((place + 1) / rank for place, rank in enumerate(top)) / min(k, total),
        "mrr": 1 / top[0] if top else 0.0,
        "recall": len(top) / total,
        "precision": len(top) / k,
        "hit_rate": float(bool(top)),
    }[name]


def slow(name, scores, relevant, k, total=None):
    """Mean over all orders of the ties."""
    total = total or sum(relevant)
    return np.mean([of_order(name, [relevant[i] for i in order], k, total) for order in orders(scores)])


def tied_list(seed, n):
    """Scores of few distinct values, some NaN, with at least one hit and one miss."""
    rng = np.random.default_rng(seed)
    scores = rng.choice([0.0, 1.0, 2.0, NAN], n)
    relevant = rng.random(n) < 0.4
    relevant[:2] = True, False
    return scores, relevant


@pytest.mark.parametrize("name", RANKING_METRICS)
@pytest.mark.parametrize("k", [1, 3, 10])
@pytest.mark.parametrize("seed", range(5))
def test_a_metric_is_its_mean_over_all_orders_of_the_ties(name, k, seed):
    scores, relevant = tied_list(seed, 6)
    assert one_list(name, scores, relevant, k) == pytest.approx(slow(name, scores, relevant, k), abs=1e-12)


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_lists_one_after_the_other_have_the_metrics_they_have_alone(name):
    lists = [tied_list(seed, n) for seed, n in enumerate([7, 2, 40, 3])]
    together = ranking_metrics(
        np.concatenate([s for s, _ in lists]), np.concatenate([r for _, r in lists]), np.array([7, 2, 40, 3]), k=5
    )[name]
    assert together == pytest.approx([one_list(name, *one, 5) for one in lists], abs=1e-12)


@pytest.mark.parametrize("name", AT_K)
def test_relevant_items_that_are_not_in_the_list_count(name):
    scores, relevant = array(3, 2, 1), clicked(0, 1, 0)
    found = ranking_metrics(scores, relevant, np.array([3]), k=2, total=np.array([4]))[name][0]
    assert found == pytest.approx(slow(name, scores, relevant, 2, total=4))


def test_a_list_without_items_but_with_relevant_ones_scores_nothing():
    found = ranking_metrics(array(), clicked(), np.array([0]), k=2, total=np.array([3]))
    assert [found[name][0] for name in AT_K] == [0.0] * len(AT_K)


@pytest.mark.parametrize("seed", range(10))
def test_ndcg_and_auc_agree_with_scikit_learn_on_tied_lists(seed):
    scores, relevant = tied_list(seed, 40)
    scores = np.nan_to_num(scores, nan=-1.0)
    assert one_list("ndcg", scores, relevant) == pytest.approx(ndcg_score([relevant], [scores], k=10), abs=1e-12)
    assert one_list("group_auc", scores, relevant) == pytest.approx(roc_auc_score(relevant, scores), abs=1e-12)


def test_metrics_agree_with_ranx_on_lists_without_ties(monkeypatch):
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "1")  # before its import: compiling takes ranx forty times as long
    from ranx import Qrels, Run, evaluate

    rng = np.random.default_rng(11)
    scores = np.array([rng.permutation(12) for _ in range(50)], dtype=float)
    relevant = rng.random((50, 12)) < 0.3
    relevant[:, 0] = True
    truth = Qrels({f"q{q}": {f"d{d}": 1 for d in np.flatnonzero(relevant[q])} for q in range(50)})
    run = Run({f"q{q}": {f"d{d}": float(scores[q, d]) for d in range(12)} for q in range(50)})
    for name in AT_K:
        k = 12 if name == "map" else 5  # ranx divides map by all relevant items: the same where k is the whole list
        found = ranking_metrics(scores.ravel(), relevant.ravel(), np.full(50, 12), k=k)[name]
        assert found.mean() == pytest.approx(evaluate(truth, run, f"{name}@{k}"), abs=1e-9), name


@pytest.mark.parametrize("name", RANKING_METRICS)
@pytest.mark.parametrize("relevant", [clicked(), clicked(0, 0)], ids=["empty", "no hit"])
def test_a_list_without_a_hit_has_no_metric(name, relevant):
    assert isnan(one_list(name, np.zeros(len(relevant)), relevant))


def test_a_list_of_hits_has_the_best_ndcg_in_any_order_and_no_auc():
    assert one_list("ndcg", array(1, NAN, 3), clicked(1, 1, 1)) == pytest.approx(1.0)
    assert isnan(one_list("group_auc", array(1, 2), clicked(1, 1)))


@pytest.mark.parametrize("k, expected", [(1, 0.0), (2, 1 / log2(3)), (9, 1 / log2(3))])
def test_ndcg_looks_at_the_first_k_or_at_all_there_are(k, expected):
    assert one_list("ndcg", array(2, 1), clicked(0, 1), k) == pytest.approx(expected)


def test_precision_of_a_list_shorter_than_k_is_over_k():
    assert one_list("precision", array(2, 1), clicked(1, 1), 4) == 0.5


def test_a_nan_score_ranks_below_the_lowest_score_and_ties_with_the_others():
    assert one_list("group_auc", array(NAN, -1e300), clicked(0, 1)) == 1.0
    assert one_list("group_auc", array(NAN, -INF), clicked(0, 1)) == 1.0
    assert one_list("group_auc", array(NAN, 1, NAN), clicked(1, 1, 0)) == 0.75


def test_an_infinite_score_is_a_score():
    assert one_list("group_auc", array(INF, 1), clicked(1, 0)) == 1.0


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_the_order_of_the_rows_is_moot(name):
    scores, relevant = tied_list(3, 12)
    assert one_list(name, scores, relevant, 3) == pytest.approx(one_list(name, scores[::-1], relevant[::-1], 3))


def test_scores_that_differ_in_their_last_bit_do_not_tie():
    assert one_list("group_auc", array(1.0, np.nextafter(1.0, 2.0)), clicked(0, 1)) == 1.0


@pytest.mark.parametrize("name", RANKING_METRICS)
def test_a_random_order_is_a_list_whose_items_all_tie(name):
    relevant = clicked(1, 1, 0, 0, 0)
    of_orders = [one_list(name, np.array(order, dtype=float), relevant, 2) for order in permutations(range(5))]
    assert one_list(name, np.zeros(5), relevant, 2) == pytest.approx(np.mean(of_orders), abs=1e-12)


def test_ties_of_a_long_list_stay_finite():
    relevant = np.arange(100_000) < 5
    assert one_list("hit_rate", np.zeros(100_000), relevant, 100) == pytest.approx(1 - (1 - 1e-3) ** 5, rel=1e-3)


def test_auc_over_all_rows_agrees_with_scikit_learn():
    rng = np.random.default_rng(2)
    scores, happened = rng.integers(0, 30, 500), rng.random(500) < 0.3
    hits, misses = (np.bincount(scores[of], minlength=30) for of in (happened, ~happened))
    assert overall_auc(hits, misses) == pytest.approx(roc_auc_score(happened, scores), abs=1e-12)


def test_auc_over_all_rows_of_one_class_is_not_a_number():
    assert isnan(overall_auc(array(1, 2), array(0, 0)))


def test_log_loss_agrees_with_scikit_learn_and_is_finite_at_0_and_1():
    p, happened = array(0.0, 1.0, 0.3, 0.9), clicked(1, 0, 0, 1)
    assert log_loss(p, happened).mean() == pytest.approx(sklearn_log_loss(happened, p))


def test_calibration_error_weighs_each_bin_by_its_rows():
    predicted, observed, rows = array(1.0, 6.0), array(3.0, 6.0), array(10, 10)
    assert calibration_error(predicted, observed, rows) == pytest.approx(0.1)


@pytest.mark.parametrize("amounts, expected", [((1, 1, 1), 0.0), ((0, 0, 9), 2 / 3), ((1, 3), 0.25)])
def test_gini_of_equal_and_of_unequal_amounts(amounts, expected):
    assert gini(array(*amounts)) == pytest.approx(expected)


def test_gini_of_nothing_is_not_a_number():
    assert isnan(gini(array(0, 0)))


def unit_vectors(seed, n):
    """Unit vectors; the second is none."""
    vectors = np.random.default_rng(seed).normal(size=(n, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors[1:2] = 0.0
    return vectors


@pytest.mark.parametrize("seed", range(3))
def test_diversity_is_the_mean_over_the_pairs_of_ads_that_have_a_vector(seed):
    lists = [unit_vectors(seed, n) for n in (6, 0, 3, 2, 1)]
    pairs = [[1 - a @ b for a, b in combinations(one[one.any(axis=1)], 2)] for one in lists]
    found = intra_list_diversity(np.concatenate(lists), np.array([6, 0, 3, 2, 1]))
    assert found[[0, 2]] == pytest.approx([np.mean(pairs[0]), np.mean(pairs[2])], abs=1e-12)
    assert np.isnan(found[[1, 3, 4]]).all()  # no list, one vector and none, one ad


def test_copies_of_an_ad_have_no_diversity_and_no_lists_no_value():
    assert intra_list_diversity(np.tile(unit_vectors(1, 1), (4, 1)), np.array([4]))[0] == pytest.approx(0.0, abs=1e-12)
    assert intra_list_diversity(np.zeros((0, 5)), np.array([], dtype=int)).shape == (0,)


def test_an_ad_that_all_met_is_no_surprise_and_one_that_nobody_met_a_finite_one():
    assert self_information(array(7, 3, 0), 7).tolist() == [0.0, 1.0, 3.0]
    assert self_information(array(0), 0).tolist() == [0.0]


def test_novelty_serendipity_and_repeats_are_shares_of_the_list():
    found = variety_metrics(
        np.zeros((6, 1)),
        array(1, 2, 6, 0, 0, 5),
        met=clicked(1, 0, 0, 1, 1, 0),
        shown=clicked(1, 1, 1, 1, 0, 0),
        clicked=clicked(1, 1, 0, 1, 0, 0),
        expected=clicked(0, 1, 0, 0, 0, 0),
        sizes=np.array([3, 0, 2, 1]),
    )
    nan = pytest.approx(NAN, nan_ok=True)
    assert found["novelty"].tolist() == [3.0, nan, 0.0, 5.0]
    assert found["repeat_rate"].tolist() == [pytest.approx(1 / 3), nan, 1.0, 0.0]
    assert found["serendipity"].tolist() == [
        pytest.approx(1 / 3),
        nan,
        1.0,
        nan,
    ]  # of those shown; the last one's is not
    assert np.isnan(found["diversity"]).all()


@pytest.mark.parametrize("ads, sizes", [(2, [1]), (4, [2, 2, 2]), (4, [1, 3, 2, 9]), (5, [1, 0, 2]), (3, [3, 3])])
def test_the_gini_of_random_lists_is_the_mean_over_all_of_them(ads, sizes):
    each = [list(combinations(range(ads), min(size, ads))) for size in sizes]
    ginis = [gini(np.bincount(np.concatenate(one).astype(int), minlength=ads)) for one in product(*each)]
    assert random_gini(np.array(sizes), np.ones(len(sizes)), ads) == pytest.approx(np.mean(ginis), abs=1e-9)


def test_no_list_has_no_gini_and_very_many_random_ones_have_nearly_none():
    assert isnan(random_gini(np.array([]), np.array([]), 5))
    assert 0 < random_gini(np.array([10]), np.array([1_000_000]), 1_000) < 0.01
    assert random_gini(np.array([1]), np.array([3]), 1) == 0.0
