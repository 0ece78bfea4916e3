import numpy as np
import pytest

from llmrec_spark import text_vectors as stage
from llmrec_spark.config import EncoderConfig
from llmrec_spark.model.ad_encoder import load_ad_encoder
from llmrec_spark.model.embedded import restore_embedded_encoder
from llmrec_spark.texts import text_hash

TEXTS = "text_hash string, text string"
AT_WHICH_TASK = ("spark_partition_id() AS task", "struct(*) AS one")
BUDGET = 256
CHINESE = "运动跑鞋男 透气 轻便"
WORDS = ("shoes", "red", "running", "for men", "a film about the sea", "light", CHINESE, "naïve café")


@pytest.fixture(scope="module")
def minilm_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "minilm"
    restore_embedded_encoder("minilm", folder)
    return str(folder)


@pytest.fixture(scope="module")
def texts():
    """Texts of 1 to 40 words, and one that is empty."""
    rng = np.random.default_rng(6)
    return [*(" ".join(rng.choice(WORDS, length)) for length in [*range(1, 12), 40]), CHINESE, ""]


@pytest.fixture
def chunks_of_four(monkeypatch):
    monkeypatch.setattr(stage, "TEXTS_PER_CHUNK", 4)  # four chunks


def hashed(spark, texts):
    return spark.createDataFrame([(text_hash(text), text) for text in texts], TEXTS)


def vectors_of(texts, minilm_folder, tasks):
    return stage.text_vectors(
        texts,
        encoder=minilm_folder,
        golden=False,
        settings=EncoderConfig(),
        encoder_digest="this",
        token_budget=BUDGET,
        tasks=tasks,
    )


def by_hash(rows):
    return {row.text_hash: row for row in rows}


def test_vectors_are_those_of_the_encoder_whatever_the_tasks(spark, texts, minilm_folder, chunks_of_four):
    alone = vectors_of(hashed(spark, texts), minilm_folder, tasks=1).collect()
    spread = vectors_of(hashed(spark, reversed(texts)).repartition(3), minilm_folder, tasks=4)
    tasks, four = zip(*((row.task, row.one) for row in spread.selectExpr(*AT_WHICH_TASK).collect()), strict=True)
    assert sorted(tasks.count(one) for one in set(tasks)) == [2, 4, 4, 4]  # a chunk each
    assert by_hash(four) == by_hash(alone)  # to the last bit
    assert sorted(row.text_hash for row in alone) == sorted(map(text_hash, texts)) == sorted(r.text_hash for r in four)
    expected = load_ad_encoder(minilm_folder, EncoderConfig(), "cpu").encode(texts, BUDGET)
    for place, text in enumerate(texts):
        row = by_hash(alone)[text_hash(text)]
        np.testing.assert_allclose(np.frombuffer(row.vector, "<f4"), expected.vectors[place], rtol=0, atol=1e-5)
        assert (row.encoder_digest, row.tokens) == ("this", expected.tokens[place])
        assert row.unknown_share == pytest.approx(expected.unknown_share[place])


def test_a_text_is_encoded_once_ever(spark, texts, minilm_folder):
    twice = hashed(spark, [*texts[:4], *texts[2:4]])
    nothing = spark.createDataFrame([], "encoder_digest string, text_hash string")
    first = vectors_of(stage.missing_texts(twice, nothing, encoder_digest="this"), minilm_folder, tasks=2)
    stored = spark.createDataFrame(first.collect(), first.schema)
    assert sorted(row.text_hash for row in stored.collect()) == sorted(map(text_hash, texts[:4]))

    missing = stage.missing_texts(hashed(spark, texts[:6]), stored, encoder_digest="this")
    assert sorted(row.text for row in missing.collect()) == sorted(texts[4:6])
    assert stage.missing_texts(twice, stored, encoder_digest="another").count() == 4


def test_the_share_of_unknown_tokens_tells_a_language_the_encoder_cannot_read(spark, minilm_folder):
    asked = hashed(spark, [CHINESE, "running shoes for men, light and breathable"])
    rows = by_hash(vectors_of(asked, minilm_folder, tasks=1).collect())
    chinese, english = (rows[row.text_hash].unknown_share for row in asked.collect())
    assert chinese > 0.5
    assert english == 0.0


def test_no_text_has_no_vector(spark, minilm_folder):
    found = vectors_of(hashed(spark, []), minilm_folder, tasks=2)
    assert found.collect() == []
    assert found.columns == ["encoder_digest", "text_hash", "vector", "tokens", "unknown_share"]
