from collections import Counter
from math import log, sqrt

import numpy as np
import pytest

from llmrec_spark.model.keywords import inverse_document_frequency, tfidf_vectors

FREQUENCY, DOCUMENTS = {"red": 9, "shoe": 3, "男鞋": 1}, 9


def cosines(vectors):
    return (vectors @ vectors.T).toarray()


def slow_cosine(left, right):
    def weights(words):
        return {w: n * (log((1 + DOCUMENTS) / (1 + FREQUENCY.get(w, 0))) + 1) for w, n in Counter(words).items()}

    one, other = weights(left), weights(right)
    size = sqrt(sum(v * v for v in one.values()) * sum(v * v for v in other.values()))
    return sum(one[w] * other[w] for w in one.keys() & other.keys()) / size if size else 0.0


def test_a_word_of_every_document_has_idf_one():
    assert inverse_document_frequency(["red"], FREQUENCY, DOCUMENTS) == pytest.approx([1.0])


def test_an_unseen_word_has_the_largest_idf():
    unseen, rare, common = inverse_document_frequency(["boot", "男鞋", "red"], FREQUENCY, DOCUMENTS)
    assert unseen == pytest.approx(log(10) + 1)
    assert unseen > rare > common


def test_without_any_document_every_word_weighs_alike():
    np.testing.assert_array_equal(inverse_document_frequency(["a", "b"], {}, 0), [1.0, 1.0])


def test_the_idf_is_that_of_scikit_learn():
    from sklearn.feature_extraction.text import TfidfTransformer

    counts = np.array([[1, 0, 2], [1, 1, 0], [1, 0, 0]])  # words a, b, c in three documents
    expected = TfidfTransformer(smooth_idf=True).fit(counts).idf_
    found = inverse_document_frequency(["a", "b", "c"], {"a": 3, "b": 1, "c": 1}, 3)
    np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize("seed", range(5))
def test_the_product_of_two_vectors_is_their_tfidf_cosine(seed):
    rng = np.random.default_rng(seed)
    lists = [list(rng.choice(["red", "shoe", "男鞋", "boot", "very new"], rng.integers(0, 6))) for _ in range(8)]
    found = cosines(tfidf_vectors(lists, FREQUENCY, DOCUMENTS))
    np.testing.assert_allclose(found, [[slow_cosine(a, b) for b in lists] for a in lists], rtol=0, atol=1e-6)


def test_an_empty_list_has_a_row_of_zeros():
    vectors = tfidf_vectors([[], ["red"], []], FREQUENCY, DOCUMENTS).toarray()
    np.testing.assert_array_equal(vectors, [[0.0], [1.0], [0.0]])


@pytest.mark.parametrize("lists", [[], [[]], [[], []]])
def test_no_word_at_all_gives_empty_rows(lists):
    vectors = tfidf_vectors(lists, FREQUENCY, DOCUMENTS)
    assert vectors.shape[0] == len(lists)
    assert vectors.nnz == 0


def test_a_word_counts_as_often_as_it_stands_there():
    vectors = tfidf_vectors([["red", "boot", "red"]], {}, 0).toarray()
    np.testing.assert_allclose(vectors, [[2 / sqrt(5), 1 / sqrt(5)]], rtol=1e-6)


def test_the_order_of_the_words_is_moot():
    vectors = tfidf_vectors([["red", "shoe", "shoe"], ["shoe", "red", "shoe"]], FREQUENCY, DOCUMENTS)
    np.testing.assert_allclose(cosines(vectors), 1.0, rtol=1e-6)


def test_vectors_are_float32():
    assert tfidf_vectors([["red"]], FREQUENCY, DOCUMENTS).dtype == np.float32
