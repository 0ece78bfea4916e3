from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from llmrec_spark.config import EncoderConfig, MatchConfig
from llmrec_spark.model.ad_encoder import Encoded
from llmrec_spark.model.checkpoint import Model, ModelConfig
from llmrec_spark.model.match import Parameters
from llmrec_spark.model.single_pairs import match_rows
from llmrec_spark.texts import field_keywords, field_text
from tests.model.catalogues import Behaviour, Text, World, unit
from tests.model.slow_match import slow_match

FIELDS = ("title", "tags")
SHOE = {"title": "Red running shoe", "tags": ["sport", "running"]}
LAMP = {"title": "Desk lamp", "tags": ["home"]}


def vector_of(text):
    """A direction of its own for each text."""
    rng = np.random.default_rng(list(text.encode()))
    return unit(*rng.normal(size=6))


class StubEncoder:
    """Stands for a language model; remembers what it read."""

    def __init__(self):
        self.read = []

    def encode(self, texts, token_budget):
        self.read += texts
        vectors = np.array([vector_of(text) for text in texts], dtype=np.float32).reshape(len(texts), 6)
        return Encoded(vectors, np.ones(len(texts), dtype=np.int32), np.zeros(len(texts), dtype=np.float32))


@pytest.fixture
def model():
    config = ModelConfig(
        name="stub", encoder=EncoderConfig(), encoder_digest="", width=6, fields=FIELDS, centred=False
    )  # fmt: skip
    return Model(Path("nowhere"), config, None, 9, {"running": 5, "shoe": 2}, "")


def slow_row(model, behaviours, ad):
    """The row by the slow twin of the match."""
    ads = {}
    for number, one in enumerate([*behaviours, ad]):
        phrases = {name: [value] if isinstance(value, str) else value for name, value in one.items()}
        texts = {name: Text(field_text(values), field_keywords(name, values)) for name, values in phrases.items()}
        ads[f"{number}"] = {name: text for name, text in texts.items() if text.text_hash}
    vectors = {text.text_hash: vector_of(text.text_hash) for texts in ads.values() for text in texts.values()}
    behaved = list(ads)[:-1]
    world = World(
        ads=ads,
        vectors=vectors,
        queries={},
        live=[],
        behaved=behaved,
        frequency=model.document_frequency,
        documents=model.documents,
    )
    return slow_match(world, [Behaviour(one) for one in behaved], list(ads)[-1], Parameters.of(MatchConfig()))


def test_each_row_follows_the_formula(model):
    rows = [([SHOE, LAMP], {"title": "Blue shoe"}), ([LAMP], SHOE), ([SHOE, SHOE, LAMP], {"tags": ["running", "home"]})]
    expected = [slow_row(model, *row) for row in rows]
    np.testing.assert_allclose(match_rows(model, StubEncoder(), rows), expected, rtol=0, atol=1e-6)


def test_an_ad_of_one_field_matches_itself_entirely(model):
    ad = {"title": "Desk lamp"}
    assert match_rows(model, StubEncoder(), [([ad], ad)]) == pytest.approx([1.0], abs=1e-6)


def test_other_rows_change_no_match(model):
    alone = match_rows(model, StubEncoder(), [([SHOE], LAMP)])
    among = match_rows(model, StubEncoder(), [([], SHOE), ([SHOE], LAMP), ([LAMP, LAMP], LAMP)])
    assert among[1] == pytest.approx(alone[0], abs=1e-6)


def test_a_phrase_alone_is_a_list_of_one(model):
    rows = [([SHOE], {"tags": "running"}), ([SHOE], {"tags": ["running"]})]
    one, other = match_rows(model, StubEncoder(), rows)
    assert one == other


@pytest.mark.parametrize("empty", [{}, {"title": None}, {"title": ""}, {"title": "<br>", "tags": []}, {"price": "9"}])
def test_an_ad_without_text_has_no_match(model, empty):
    found = match_rows(model, StubEncoder(), [([SHOE], empty), ([empty], SHOE), ([empty], empty)])
    assert np.isnan(found).all()


def test_a_batch_without_any_text_has_no_match(model):
    assert np.isnan(match_rows(model, StubEncoder(), [([{}], {}), ([], {})])).all()


def test_a_user_without_behaviours_has_no_match(model):
    assert np.isnan(match_rows(model, StubEncoder(), [([], SHOE)])).all()


def test_a_behaviour_without_text_changes_nothing(model):
    with_empty, without = match_rows(model, StubEncoder(), [([SHOE, {}], LAMP), ([SHOE], LAMP)])
    assert with_empty == pytest.approx(without, abs=1e-6)


def test_no_rows_have_no_matches(model):
    assert match_rows(model, StubEncoder(), []) == []


def test_a_text_is_read_once(model):
    encoder = StubEncoder()
    match_rows(model, encoder, [([SHOE, SHOE], SHOE), ([LAMP], SHOE)])
    assert sorted(encoder.read) == ["Desk lamp", "Red running shoe", "home", "sport, running"]


def test_a_centred_model_subtracts_the_mean_of_the_field(model):
    mean = (0.5 * vector_of("lamp")).astype(np.float32)
    centred = replace(model, centre={"title": mean, "tags": np.zeros(6, dtype=np.float32)})
    [found] = match_rows(centred, StubEncoder(), [([{"title": "shoe"}], {"title": "hat"})])
    shoe, hat = (unit(*(vector_of(text) - mean)) for text in ("shoe", "hat"))
    assert found == pytest.approx(0.6 * float(shoe @ hat), abs=1e-6)


def test_a_language_model_puts_shoes_nearer_to_shoes_than_to_headphones(model, minilm):
    model = replace(model, config=model.config.model_copy(update={"width": 384}))
    rows = [([SHOE], {"title": "light trainers for men"}), ([SHOE], {"title": "noise cancelling headphones"})]
    shoes, headphones = match_rows(model, minilm, rows)
    assert shoes > headphones + 0.1
