"""Every metric of an order or a probability, each formula once, on arrays that hold many lists one after the other.

Relevance is binary. The rules: items of one score tie, and a metric is its expectation over all orders of its ties
(McSherry and Najork, "Computing information retrieval performance measures efficiently in the presence of tied
scores", ECIR 2008), so a random order is a list whose items all tie. A NaN score ranks last, tied with the others of
its list. A list without a relevant item has no ranking metric (NaN), one without an irrelevant item no AUC. A list of
fewer than k items is as if the missing places held irrelevant ones. An item that stands in a list twice is for the
caller to remove: here it would be two items.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.integrate import quad
from scipy.special import gammaln

RANKING_METRICS = ("ndcg", "map", "mrr", "recall", "precision", "hit_rate", "group_auc")
VARIETY_METRICS = ("diversity", "novelty", "serendipity", "repeat_rate")


@dataclass(frozen=True)
class TiedLists:
    """L lists of n items altogether, each in order of its scores, and of every item the group it ties with."""

    sizes: np.ndarray  # (L,) items of each list
    lists: np.ndarray  # (n,) the list of an item, ascending
    place: np.ndarray  # (n,) from 0, in its list
    within: np.ndarray  # (n,) from 0, in its group
    group_size: np.ndarray  # (n,)
    group_hits: np.ndarray  # (n,) relevant items of its group
    hits_before: np.ndarray  # (n,) relevant items of its list before its group

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(n,) -> (L,): the sum over each list."""
        return np.bincount(self.lists, weights=values, minlength=len(self.sizes))


def tied_lists(scores: np.ndarray, relevant: np.ndarray, sizes: np.ndarray) -> TiedLists:
    """Sorts lists that stand one after the other: scores (n,), relevant (n,) bool, sizes (L,) of sum n."""
    count = len(scores)
    lists = np.repeat(np.arange(len(sizes)), sizes)
    is_nan = np.isnan(scores)
    value = np.where(is_nan, np.inf, -np.asarray(scores, dtype=np.float64))  # ascending from the best
    order = np.lexsort((is_nan, value, lists))  # -inf is a score, and better than NaN
    value, is_nan, hits = value[order], is_nan[order], np.asarray(relevant, dtype=np.float64)[order]
    first_of_list = np.cumsum(sizes) - sizes
    place = np.arange(count) - first_of_list[lists]
    opens = place == 0
    opens[1:] |= (value[1:] != value[:-1]) | (is_nan[1:] != is_nan[:-1])
    group, opened = np.cumsum(opens) - 1, np.flatnonzero(opens)
    hits_of_group = np.bincount(group, weights=hits, minlength=len(opened))
    before = np.concatenate([[0.0], np.cumsum(hits)])[:-1]  # of all lists so far
    before_group = before[opened] - before[first_of_list[lists[opened]]] if count else before
    return TiedLists(
        sizes=np.asarray(sizes),
        lists=lists,
        place=place,
        within=np.arange(count) - opened[group] if count else place,
        group_size=np.bincount(group, minlength=len(opened))[group] if count else place,
        group_hits=hits_of_group[group] if count else hits,
        hits_before=before_group[group] if count else hits,
    )


def ranking_metrics(
    scores: np.ndarray, relevant: np.ndarray, sizes: np.ndarray, *, k: int, total: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """RANKING_METRICS of L lists, each (L,), at k but for group_auc: scores (n,), relevant (n,) bool, sizes (L,).

    total  (L,) relevant items there are for each list, also those that do not stand in it; None: those that do

    ndcg       gain 1, discount 1 / log2(rank + 1), divided by that of the best order of `total`
    map        precision at each relevant place up to k, summed, divided by min(k, total)
    mrr        1 / rank of the first relevant item, 0 beyond k
    recall, precision, hit_rate   relevant items up to k over total, over k, and whether there is one
    group_auc  share of the (relevant, irrelevant) pairs of the list that are in the right order
    """
    tied = tied_lists(scores, relevant, sizes)
    listed = tied.sums(np.asarray(relevant, dtype=np.float64)) if len(tied.lists) else np.zeros(len(sizes))
    truths = listed if total is None else np.asarray(total, dtype=np.float64)
    up_to_k = tied.place < k
    share = np.where(up_to_k, tied.group_hits / np.maximum(tied.group_size, 1), 0.0)  # expected relevance of a place
    rank = tied.place + 1.0
    ideal = np.concatenate([[0.0], np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))])
    first = np.where(up_to_k, _first_hit(tied), 0.0)
    between = tied.within * (tied.group_hits - 1.0) / np.maximum(tied.group_size - 1.0, 1.0)  # hits of ties above it
    in_k, pairs = tied.sums(share), listed * (np.asarray(sizes) - listed)
    misses_before = tied.place - tied.within - tied.hits_before
    misses = tied.group_size - tied.group_hits
    wrong = tied.sums(tied.group_hits / np.maximum(tied.group_size, 1) * (misses_before + misses / 2.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        found = {
            "ndcg": tied.sums(share / np.log2(rank + 1.0)) / ideal[np.minimum(truths, k).astype(int)],
            "map": tied.sums(share * (tied.hits_before + between + 1.0) / rank) / np.minimum(truths, k),
            "mrr": tied.sums(first / rank),
            "recall": in_k / truths,
            "precision": in_k / k,
            "hit_rate": tied.sums(first),
            "group_auc": np.where(pairs > 0, 1.0 - wrong / pairs, np.nan),
        }
    judged = truths > 0
    return {name: np.where(judged | (name == "group_auc"), values, np.nan) for name, values in found.items()}


def _first_hit(tied: TiedLists) -> np.ndarray:
    """(n,) the probability that a place holds the first relevant item of its list."""
    m, r, i = tied.group_size.astype(np.float64), tied.group_hits, tied.within.astype(np.float64)
    found = np.where((tied.hits_before == 0) & (r > 0) & (m - i >= r), r / np.maximum(m - i, 1.0), 0.0)
    several = (found > 0) & (i > 0)  # none among the i ties above it: C(m - i, r) / C(m, r)
    m, r, i = m[several], r[several], i[several]
    none_above = gammaln(m - i + 1) - gammaln(m - i - r + 1) - gammaln(m + 1) + gammaln(m - r + 1)
    found[several] *= np.exp(none_above)
    return found


def one_list(name: str, scores: np.ndarray, relevant: np.ndarray, k: int = 10) -> float:
    """A metric of RANKING_METRICS of one list: scores (n,), relevant (n,) bool."""
    return float(ranking_metrics(scores, relevant, np.array([len(scores)]), k=k)[name][0])


def overall_auc(hits: np.ndarray, misses: np.ndarray) -> np.ndarray:
    """AUC over all rows, ties half, from counts per score, ascending: hits, misses (..., S) -> (...).

    NaN where there is no pair. With rows binned, those of one bin tie.
    """
    below = np.cumsum(misses, axis=-1) - misses
    right = (hits * (below + misses / 2.0)).sum(axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(right / (hits.sum(axis=-1) * misses.sum(axis=-1)))


def log_loss(probability: np.ndarray, happened: np.ndarray) -> np.ndarray:
    """(n,) minus the log-likelihood of each row, natural logarithm, probabilities held 2^-52 away from 0 and 1."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 2.0**-52, 1 - 2.0**-52)
    return np.asarray(-np.where(happened, np.log(p), np.log1p(-p)))


def calibration_error(predicted: np.ndarray, observed: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Mean absolute difference of predicted and observed means over bins, by rows: sums (..., bins) -> (...).

    predicted and observed are sums over the rows of each bin (Naeini et al., AAAI 2015, with bins of equal size).
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.abs(predicted - observed).sum(axis=-1) / rows.sum(axis=-1))


def gini(exposure: np.ndarray) -> float:
    """Gini coefficient of non-negative amounts, (n,): 0 all equal, (n - 1) / n all on one; NaN without any."""
    amounts = np.sort(np.asarray(exposure, dtype=np.float64))
    n, total = len(amounts), amounts.sum()
    if not total:
        return float("nan")
    return float((2.0 * np.arange(1, n + 1) - n - 1.0) @ amounts / (n * total))


def random_gini(sizes: np.ndarray, lists: np.ndarray, ads: int) -> float:
    """The expected Gini of the exposures of `ads` ads where lists of each size (S,), so many (S,), hold random ones.

    Of two ads, a list of m has the one and not the other with probability q = 2 m (n - m) / (n (n - 1)), either way
    round, so their exposures differ by a walk of steps -1, 0, 1. The mean distance of a walk is the integral of
    1 - prod(1 - 2q / (1 + y^2)) over y > 0, divided by pi: its characteristic function is prod(1 - q + q cos t), and
    y = cot(t / 2). NaN without any exposure.
    """
    lengths = np.minimum(sizes, ads)
    total = float(lengths @ lists)
    if not total:
        return float("nan")
    q = 2.0 * lengths * (ads - lengths) / (ads * max(ads - 1.0, 1.0))
    width = max(float(q @ lists), 1.0) ** 0.5  # the walk's standard deviation

    def unlike(y: float) -> float:
        x = 2.0 * q / (1.0 + (width * y) ** 2)
        size = lists @ np.log1p(-np.minimum(x * (2.0 - x), 1.0 - 1e-16)) / 2.0  # log of |1 - x|, exact for a small x
        return float(1.0 + np.exp(size) if lists[x > 1.0].sum() % 2 else -np.expm1(size))

    distance = width / np.pi * quad(unlike, 0.0, np.inf, limit=200)[0]
    return float((ads - 1.0) * distance / (2.0 * total)) + 0.0  # no -0.0


def intra_list_diversity(vectors: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(L,) mean of 1 - cosine over the pairs of each list; NaN with fewer than two vectors.

    vectors  (n, D) of unit length, list after list; a vector of zeros is none; sizes (L,) of sum n

    Ziegler et al., "Improving recommendation lists through topic diversification", WWW 2005; Smyth and McClave,
    "Similarity vs. diversity", ICCBR 2001. No pair is formed: the square of a sum of vectors holds them all.
    """
    square, counted, own = np.zeros(len(sizes)), np.zeros(len(sizes)), np.zeros(len(sizes))
    filled = np.asarray(sizes) > 0
    starts = (np.cumsum(sizes) - sizes)[filled]
    if len(starts):
        total = np.add.reduceat(vectors, starts, axis=0, dtype=np.float64)
        square[filled] = np.einsum("ld,ld->l", total, total)
        norms = np.einsum("nd,nd->n", vectors, vectors, dtype=np.float64)
        own[filled] = np.add.reduceat(norms, starts)
        counted[filled] = np.add.reduceat((norms > 0).astype(np.float64), starts)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(counted > 1, 1.0 - (square - own) / (counted * (counted - 1.0)), np.nan)


def self_information(users_met: np.ndarray, users: int) -> np.ndarray:
    """(n,) bits by which an ad is a surprise: -log2 of the share of users who met it, (met + 1) / (users + 1).

    Vargas and Castells, "Rank and relevance in novelty and diversity metrics", RecSys 2011; the 1 is for ads that
    nobody met, which would be infinitely novel. An ad that all met has 0.
    """
    return np.asarray(-np.log2((np.asarray(users_met, dtype=np.float64) + 1.0) / (users + 1.0)))


def variety_metrics(
    vectors: np.ndarray,
    information: np.ndarray,
    *,
    met: np.ndarray,
    shown: np.ndarray,
    clicked: np.ndarray,
    expected: np.ndarray,
    sizes: np.ndarray,
) -> dict[str, np.ndarray]:
    """VARIETY_METRICS of L lists, each (L,), NaN where there is nothing to divide by; items (n,), list after list.

    diversity    intra_list_diversity of `vectors`
    novelty      mean `information` of the ads, as self_information gives it
    serendipity  of the ads that were shown, so that their relevance is known, those clicked that a primitive
                 recommender would not have listed (Ge et al., "Beyond accuracy", RecSys 2010): not `expected`
    repeat_rate  share of the ads that the user met before
    """
    every = np.ones(len(information), dtype=bool)
    return {
        "diversity": intra_list_diversity(vectors, sizes),
        "novelty": _list_means(information, every, sizes),
        "serendipity": _list_means(clicked & ~expected, shown, sizes),
        "repeat_rate": _list_means(met, every, sizes),
    }


def _list_means(values: np.ndarray, counted: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """(L,) the mean of each list over the items that count."""
    lists = np.repeat(np.arange(len(sizes)), sizes)
    total = np.bincount(lists, weights=np.where(counted, values, 0.0), minlength=len(sizes))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(total / np.bincount(lists, weights=counted, minlength=len(sizes)))
