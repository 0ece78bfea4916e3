"""Histories as a language model reads them, through Spark and a real encoder."""

import json
import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import save_file

from llmrec_spark.config_files import load_config
from llmrec_spark.history_texts import ad_names, history_texts, history_vectors, texts_of_lists
from llmrec_spark.model.ad_encoder import load_ad_encoder
from llmrec_spark.model.checkpoint import open_model
from llmrec_spark.model.whole_folder import file_sha256
from llmrec_spark.tables import SEQUENCES
from llmrec_spark.texts import text_hash
from tests.jobs.conftest import DAY, job, write_conf

FIELDS = ("title", "description")
NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)
TEXTS = {"a": "Red shoes", "b": "Blue boat", "c": "Green tea", "e": "Old clock"}  # d has none
NEXT_DAY = pd.Timestamp("2026-02-21")


def sequence(user, clicked, skipped=(), *, kinds=None):
    """A history: ads clicked and skipped with how many hours before noon."""
    ads, hours = zip(*clicked, strict=True) if clicked else ((), ())
    skipped_ads, skipped_hours = zip(*skipped, strict=True) if skipped else ((), ())
    then = [NOON - timedelta(hours=hour) for hour in hours]
    return {
        "user_id": user,
        "run_date": NEXT_DAY.date(),
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
        sequence("one", [("a", 3), ("b", 2), ("c", 1)], [("e", 1)]),
        sequence("same moment", [("c", 2), ("a", 2), ("d", 1)]),  # d has no text
        sequence("many", [("a", 3), ("b", 2), ("a", 1)]),
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


def texts_by_history(sequences, names):
    """(user, whether of skips) -> text."""
    rows = history_texts(sequences, names, clicks=("click",)).collect()
    assert all(row.text_hash == text_hash(row.text) for row in rows)
    return {(row.user_id, row.is_skip): row.text for row in rows}


def test_a_text_names_the_newest_different_ads_first(sequences, ad_texts):
    assert texts_by_history(sequences, ad_names(ad_texts, fields=FIELDS)) == {
        ("one", False): "Green tea; Blue boat; Red shoes",
        ("one", True): "Old clock",
        ("same moment", False): "Red shoes; Green tea",
        ("many", False): "Red shoes; Blue boat",
    }


def test_a_text_has_no_more_ads_than_an_encoder_reads(spark, sequences):
    ads = "abcdefghijklmnop"
    clicked = [(ad, hour) for hour, ad in enumerate(reversed(ads))]
    much = spark.createDataFrame([sequence("all", clicked[::-1], clicked[::-1])], sequences.schema)
    names = spark.createDataFrame([(ad, ad.upper()) for ad in ads], "ad_id string, name string")
    both = texts_by_history(much, names)
    assert set(both.values()) == {"; ".join("PONMLKJIHGFE")}
    assert len(both) == 2


def test_an_ad_is_called_by_its_first_field_that_has_a_text(ad_texts):
    assert dict(ad_names(ad_texts, fields=FIELDS).collect()) == TEXTS


def test_vectors_are_the_encoders_centred_as_titles_in_training_and_scoring_alike(
    spark, sequences, ad_texts, model_folder, tmp_path, monkeypatch
):
    """Workers find the files of another version with the same encoder, as they may on a cluster."""
    monkeypatch.setattr("llmrec_spark.history_texts.share_folder", lambda *_: str(model_folder))
    config = load_config(write_conf(tmp_path, tmp_path / "conf.yaml"), [])
    folder = with_centre(model_folder, tmp_path / "model")
    model, names = open_model(folder), ad_names(ad_texts, fields=FIELDS)
    how = {"config": config, "model_folder": folder}
    texts = history_texts(sequences, names, clicks=config.events.answers)
    of_users = history_vectors(texts, **how)
    plan = of_users._jdf.queryExecution().optimizedPlan().toString()
    assert "rightHint=(strategy=merge)" in plan  # a broadcast would wait for the encoder, five minutes at most
    by_user = {row.user_id: row.texts for row in of_users.collect()}
    assert set(by_user) == {"one", "same moment", "many"}
    encoder = load_ad_encoder(str(folder / "encoder"), model.config.encoder, "cpu")
    expected = encoder.encode(["Green tea; Blue boat; Red shoes", "Old clock"], 256).vectors
    expected = expected - model.centre["title"]
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    found = np.stack([np.frombuffer(one, "<f4") for one in by_user["one"]])
    assert found == pytest.approx(expected, abs=1e-5)
    assert by_user["many"][1] is None
    lists = pd.DataFrame({"run_date": NEXT_DAY, "user_id": ["new", "one", "many", "one"]})
    lists["history_id"] = "of " + lists["user_id"]
    vectors = texts_of_lists(sequences, names, lists, by=("run_date", "user_id", "history_id"), **how)
    assert vectors.shape == (4, 2, model.config.width)
    assert not vectors[0].any()
    assert not vectors[2, 1].any()
    assert (vectors[1] == found).all()  # to the bit: a network that learned on is the same
    assert (vectors[3] == vectors[1]).all()


def with_centre(model, folder):
    """The model as one that takes the mean of each field away."""
    shutil.copytree(model, folder)
    rng, opened = np.random.default_rng(7), open_model(model).config
    means = {field: rng.normal(0, 0.02, opened.width).astype(np.float32) for field in opened.fields}
    save_file(means, folder / "centre.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"centred": True}), encoding="utf-8")
    return folder


def test_values_of_conversions_are_refused_of_a_model_that_saw_none(conf, reading, tmp_path):
    """Its ranker, with p_conversion taken away: every list would be empty."""
    blind = tmp_path / "blind"
    shutil.copytree(reading, blind)
    numbers = json.loads((blind / "ranker" / "ranker.json").read_text(encoding="utf-8"))
    (blind / "ranker" / "ranker.json").write_text(json.dumps(numbers | {"p_conversion": None}), encoding="utf-8")
    manifest = json.loads((blind / "MANIFEST.json").read_text(encoding="utf-8"))
    manifest["files"]["ranker/ranker.json"] = file_sha256(blind / "ranker" / "ranker.json")
    (blind / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    by_value = ("--set", "ranking.order_by=expected_value", "--set", "value.pricing=per_conversion")
    code, said = job("score_daily", "--config", conf, *DAY, "--model", blind, *by_value)
    assert code == 78, said
    assert "gives no p_conversion" in said
    assert "--until" in said
    assert not (tmp_path / "own").exists()
