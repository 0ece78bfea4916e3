import random

import pytest

from llmrec_spark import text_vectors
from llmrec_spark.text_vectors import in_chunks, missing_texts, token_counts

TEXTS = "text_hash string, text string"
VECTORS = "encoder_digest string, text_hash string, tokens int, unknown_share float"
WORDS = [(f"h{n:03d}", "é" * (n % 7)) for n in range(50)]  # 2 bytes a letter; many of one length, some empty


@pytest.fixture
def chunks_of_three(monkeypatch):
    monkeypatch.setattr(text_vectors, "TEXTS_PER_CHUNK", 3)


def chunked(texts):
    found = sorted(in_chunks(texts).collect(), key=lambda row: row.chunk)
    assert [row.chunk for row in found] == list(range(len(found)))
    return [[(one.bytes, one.text_hash, one.text) for one in row.texts] for row in found]


@pytest.mark.parametrize("partitions", [1, 5])
def test_texts_are_cut_into_chunks_along_one_order_of_bytes_and_hash(spark, chunks_of_three, partitions):
    expected = sorted((len(text.encode()), text_hash, text) for text_hash, text in WORDS)
    for seed in range(3):
        shuffled = random.Random(seed).sample(WORDS, len(WORDS))
        chunks = chunked(spark.createDataFrame(shuffled, TEXTS).repartition(partitions))
        assert [one for chunk in chunks for one in chunk] == expected
        assert [len(chunk) for chunk in chunks] == [3] * 16 + [2]


def test_texts_of_one_length_fill_several_chunks(spark, chunks_of_three):
    texts = spark.createDataFrame([(f"h{n}", "same") for n in range(7)], TEXTS)
    assert [len(chunk) for chunk in chunked(texts)] == [3, 3, 1]


def test_few_texts_are_one_chunk_and_no_texts_none(spark):
    assert len(chunked(spark.createDataFrame(WORDS, TEXTS))) == 1
    assert chunked(spark.createDataFrame([], TEXTS)) == []


@pytest.mark.parametrize("partitions", [1, 5])
def test_missing_texts_are_those_the_encoder_has_not_read_once_each(spark, partitions):
    texts = [("h1", "one"), ("h2", "two"), ("h3", "three"), ("h3", "three")]
    vectors = [("this", "h1", 1, 0.0), ("another", "h2", 1, 0.0)]
    found = missing_texts(
        spark.createDataFrame(texts, TEXTS).repartition(partitions),
        spark.createDataFrame(vectors, VECTORS),
        encoder_digest="this",
    )
    assert sorted((row.text_hash, row.text) for row in found.collect()) == [("h2", "two"), ("h3", "three")]


def test_tokens_are_counted_once_a_text(spark):
    texts = spark.createDataFrame([("h1",), ("h1",), ("h2",)], "text_hash string")
    vectors = [("d", "h1", 8, 0.25), ("d", "h2", 2, 1.0), ("d", "not asked for", 90, 1.0)]
    [row] = token_counts(texts, spark.createDataFrame(vectors, VECTORS)).collect()
    assert (row.texts_read, row.tokens_read, row.tokens_unknown) == (2, 10, 4)


def test_no_texts_have_no_tokens(spark):
    empty = spark.createDataFrame([], "text_hash string")
    [row] = token_counts(empty, spark.createDataFrame([], VECTORS)).collect()
    assert (row.texts_read, row.tokens_read, row.tokens_unknown) == (0, 0, 0)
