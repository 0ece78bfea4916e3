"""Histories as a language model reads them, through Spark, Delta and a real encoder."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from pyspark.sql import functions as F

from llmrec_spark.config import TablesConfig
from llmrec_spark.config_files import load_config
from llmrec_spark.history_texts import NEWEST, history_texts, history_vectors, texts_of_lists
from llmrec_spark.model.ad_encoder import load_ad_encoder
from llmrec_spark.model.checkpoint import open_model
from llmrec_spark.storage import Storage
from llmrec_spark.tables import SEQUENCES, TEXT_VECTORS
from tests.jobs.conftest import write_conf

FIELDS = ("title", "description")
NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)
TEXTS = {"a": "Red shoes", "b": "Blue boat", "c": "Green tea", "e": "Old clock"}  # d has none
DAY = pd.Timestamp("2026-02-21")


def sequence(user, clicked, skipped=(), *, kinds=None):
    """A history: ads clicked and skipped with how many hours before noon."""
    ads, hours = zip(*clicked, strict=True) if clicked else ((), ())
    skipped_ads, skipped_hours = zip(*skipped, strict=True) if skipped else ((), ())
    then = [NOON - timedelta(hours=hour) for hour in hours]
    return {
        "user_id": user,
        "run_date": DAY.date(),
        "history_id": f"of {user}",
        "ad_ids": list(ads),
        "event_types": kinds or ["click"] * len(ads),
        "event_ts": then,
        "positions": [1] * len(ads),
        "skipped_ad_ids": list(skipped_ads),
        "skipped_ts": [NOON - timedelta(hours=hour) for hour in skipped_hours],
        "skipped_positions": [1] * len(skipped_ads),
    }


@pytest.fixture(scope="module")
def sequences(spark):
    rows = [
        sequence("one", [("a", 3), ("b", 1), ("c", 2)], [("e", 1)]),
        sequence("same moment", [("c", 2), ("a", 2), ("d", 1)]),  # d has no text
        sequence("many", [("a", hour) for hour in range(NEWEST)] + [("b", NEWEST)]),
        sequence("searches", [(None, 1), ("a", 2)], kinds=["search", "cart"]),  # neither answers an impression
        sequence("new", []),
    ]
    of_history = [f for f in SEQUENCES.ddl.split(", ") if f.split(" ")[0].strip("`") in rows[0]]
    return spark.createDataFrame(rows, ", ".join([*of_history, "run_date date", "history_id string"]))


@pytest.fixture(scope="module")
def ad_texts(spark):
    rows = [(ad, "title", text) for ad, text in TEXTS.items() if ad != "e"]
    rows += [("e", "description", TEXTS["e"]), ("a", "description", "Shoes that are red.")]
    return spark.createDataFrame(rows, "ad_id string, field string, text string")


def test_a_text_names_the_newest_clicks_or_skips_first(sequences, ad_texts):
    found = history_texts(sequences, ad_texts, clicks=["click"], fields=FIELDS, by=["user_id"]).collect()
    assert {(row.user_id, row.role): row.text for row in found} == {
        ("one", 0): "Blue boat; Green tea; Red shoes",
        ("one", 1): "Old clock",
        ("same moment", 0): "Red shoes; Green tea",
        ("many", 0): "; ".join(["Red shoes"] * NEWEST),
    }


def test_its_vector_is_the_encoders_and_no_text_is_encoded_twice(spark, sequences, ad_texts, model_folder, tmp_path):
    config = load_config(write_conf(tmp_path, tmp_path / "conf.yaml"), [])
    storage = Storage(spark, TablesConfig(root=str(tmp_path / "tables")))
    storage.create(TEXT_VECTORS)
    model = open_model(model_folder).config
    found, encoded = history_vectors(storage, config, model_folder, sequences, ad_texts)
    by_user = {row.user_id: row.texts for row in found.collect()}
    assert set(by_user) == {"one", "same moment", "many"}
    assert encoded == 4
    encoder = load_ad_encoder(str(model_folder / "encoder"), model.encoder, "cpu")
    expected = encoder.encode(["Blue boat; Green tea; Red shoes", "Old clock"], 256).vectors
    assert np.stack([np.frombuffer(one, "<f4") for one in by_user["one"]]) == pytest.approx(expected, abs=1e-5)
    assert by_user["many"][1] is None
    lists = pd.DataFrame({"run_date": DAY, "user_id": ["new", "one", "many", "one"]})
    lists["history_id"] = "of " + lists["user_id"]
    vectors = texts_of_lists(
        storage,
        config,
        model_folder,
        sequences.where(F.col("user_id") != "same moment"),
        ad_texts,
        lists,
        by=("run_date", "user_id", "history_id"),
    )
    assert vectors.shape == (4, 2, model.width)
    assert not vectors[0].any()
    assert not vectors[2, 1].any()
    assert vectors[1] == pytest.approx(expected, abs=1e-5)
    assert (vectors[3] == vectors[1]).all()
    assert storage.read(TEXT_VECTORS).count() == 4
