"""Keywords as TF-IDF vectors, whose cosine is one more field of the match."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log

import numpy as np
import pandas as pd
from scipy.sparse import csr_array  # type: ignore[import-untyped]


def inverse_document_frequency(words: Sequence[str], frequency: Mapping[str, int], documents: int) -> np.ndarray:
    """ln((1 + documents) / (1 + frequency)) + 1 of each word, float64; a word never seen gets the largest.

    The smoothed form of scikit-learn's TfidfTransformer.
    """
    found = np.array([frequency.get(word, 0) for word in words], dtype=np.float64)
    return log(1 + documents) - np.log1p(found) + 1.0


def tfidf_vectors(keywords: Sequence[Sequence[str]], frequency: Mapping[str, int], documents: int) -> csr_array:
    """One row per list of keywords, (n, words) float32, of unit length; an empty list gives a row of zeros.

    A word counts as often as it stands in the list. Columns are the distinct words in the order of their first use.
    """
    lengths = np.fromiter((len(one) for one in keywords), dtype=np.int64, count=len(keywords))
    codes, words = pd.factorize(np.array([word for one in keywords for word in one], dtype=object))
    rows = np.repeat(np.arange(len(keywords)), lengths)
    counts = csr_array((np.ones(len(codes)), (rows, codes)), shape=(len(keywords), max(len(words), 1)))
    counts.sum_duplicates()
    if len(words):
        counts.data *= inverse_document_frequency(list(words), frequency, documents)[counts.indices]
    norms = np.sqrt(np.asarray(counts.power(2).sum(axis=1)).ravel())
    counts.data /= np.repeat(np.where(norms > 0, norms, 1.0), np.diff(counts.indptr))
    return counts.astype(np.float32)
