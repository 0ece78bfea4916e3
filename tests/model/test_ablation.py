"""What each part of a ranker brings: on the small world, where titles decide what users like."""

import time

import numpy as np
import pandas as pd
import pytest
import torch

from llmrec_spark.config import Config
from llmrec_spark.model.ad_reader import Names
from llmrec_spark.model.example_scores import pair_lookup
from llmrec_spark.model.kernel_groups import COLUMNS, GROUPS, ITSELF, KEYWORDS, TEXTS, kernel_group, without_groups
from llmrec_spark.model.taste_training import train_taste_ranker
from llmrec_spark.model.training_sample import Sample
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.training_ablation import WHOLE, ablate, parts
from llmrec_spark.training_cost import measured
from tests.model.small_world import ADS, SETTINGS, totals_of

FULL = SETTINGS.model_copy(update={"columns": ("length",), "groups": ("maker",), "rerank": ("linear", "trees")})
PLACES = {"inputs": {"events": {"path": "e"}, "ads": {"path": "a"}}, "tables": {"root": "o"}}


@pytest.fixture(scope="module")
def train_named(world):
    """Trains as a job does: names and columns follow the settings."""
    of_ads = {"length": np.arange(ADS, dtype=float), "maker": np.arange(ADS) // 2 % 5}

    def train_on(settings, examples, before, without=()):
        names = Names(settings.columns, settings.groups)
        numbers = np.stack([*(of_ads[one] for one in (*names.columns, *names.groups)), np.zeros(ADS)], axis=1)[:, :-1]
        given = (world.catalogue(), world.fields, numbers, names, examples, before, totals_of(examples), settings)
        return train_taste_ranker(*given, without)

    return train_on


@pytest.fixture(scope="module")
def table(shown, train_named):
    examples, before = shown
    rows = pd.DataFrame(
        {
            "split": np.where(examples.trains, "train", "validation"),
            "user_id": [f"u{one}" for one in examples.user],
        }
    )
    sample = Sample(rows, pd.DataFrame(), examples, before, totals_of(examples), 0)
    config = Config.model_validate({**PLACES, "mlflow": {"tracking_uri": "sqlite:///m.db"}})
    config = config.model_copy(update={"ranker": FULL})
    with measured() as cost:
        trained = train_named(FULL, examples, before)
    return ablate(config, sample, "validation", (trained, cost), train_named)


def test_each_part_that_the_settings_have_is_taken_away_once():
    assert [part.name for part in parts(FULL)] == [
        *("taste: texts", "taste: keywords", "taste: columns", "taste: groups", "taste: the ad itself"),
        *("effect: texts", "positions", "rerank: linear", "rerank: trees"),
    ]
    bare = SETTINGS.model_copy(update={"positions": False})
    assert [part.name for part in parts(bare)] == [
        *("taste: texts", "taste: keywords", "taste: the ad itself", "effect: texts")
    ]


def test_each_part_of_a_network_and_of_how_it_learns_is_taken_away_once():
    bare = SETTINGS.model_copy(update={"rerank": ("network",)})
    learning = {
        "mixed_precision": True,
        "adversarial": 0.1,
        "augmentation": {"crop": 0.1, "mask": 0.1, "reorder": 0.1},
        "pretraining": {"objective": "next"},
    }
    full = bare.model_copy(update={"learning": TrainingSettings.model_validate(learning)})
    names = [part.name.removeprefix("network: ") for part in parts(full) if part.name.startswith("network: ")]
    assert names == [
        *("transformer, not lstm", "dropout", "warm-up", "weight decay", "clipped gradients", "early stopping"),
        *("mixed precision", "loss of lists", "adversarial vectors", "histories by crop", "histories by mask"),
        *("histories by reorder", "pretraining"),
    ]
    dumped = full.model_dump()
    for part in parts(full):
        if part.name.startswith("network: "):
            changed = part.settings.model_dump()
            assert RankerConfig.model_validate(changed) == part.settings
            flat, other = flattened(dumped), flattened(changed)
            assert sum(flat[key] != other[key] for key in flat) == 1, part.name
    plain = {"warmup_share": 0, "weight_decay": 0, "clip_norm": None, "patience": None, "list_share": 0}
    off = {"learning": TrainingSettings(**plain), "network": NetworkConfig(dropout=0.0)}
    names = [part.name for part in parts(bare.model_copy(update=off)) if part.name.startswith("network: ")]
    assert names == ["network: transformer, not lstm"]


def flattened(settings, before=""):
    """Every setting by its path."""
    found = {}
    for key, value in settings.items():
        found |= flattened(value, f"{before}{key}.") if isinstance(value, dict) else {f"{before}{key}": value}
    return found


def test_the_titles_bring_most_of_the_order_where_titles_decide(table):
    brings = {row.part: row.ndcg for row in table.rows}
    others = [name for name in brings if name not in (WHOLE, "taste: texts")]
    assert brings["taste: texts"].low > 0
    assert brings["taste: texts"].value > max(brings[name].value for name in others)
    assert brings[WHOLE].value > 0.6


def test_keywords_that_no_ad_has_bring_nothing(table):
    [of_keywords] = [row for row in table.rows if row.part == "taste: keywords"]
    assert abs(of_keywords.ndcg.value) < 1e-3


def test_each_training_says_what_it_cost(table):
    assert len(table.rows) == 10
    assert all(row.cost.seconds > 0 and row.examples_per_second > 0 for row in table.rows)
    assert all(row.cost.peak_mb > 100 for row in table.rows)


def test_every_kernel_belongs_to_a_group(trained, world):
    ranker = trained[0].ranker
    texts = {f"{name} text": TEXTS for name in world.fields} | {"all texts": TEXTS, "keywords": KEYWORDS}
    columns = {"near in length": COLUMNS, "slope of length": COLUMNS}
    assert {name: kernel_group(name) for name in ranker.theta} == texts | columns | {
        "same maker": GROUPS,
        "same": ITSELF,
    }


def test_a_look_up_without_a_group_has_its_kernels_0_and_the_others_as_they_were(trained, world):
    ranker = trained[0].ranker
    features = ranker.reader.features(
        world.catalogue(), np.stack([np.arange(ADS, dtype=float), np.arange(ADS) // 2 % 5], axis=1)
    )
    whole = pair_lookup(features)
    item = trained[1].item
    rows, columns = torch.as_tensor(item[None, :3]), torch.as_tensor(item[None, 3:7])
    less = without_groups(whole, features.names, (TEXTS, ITSELF))(rows, columns)
    for place, name in enumerate(features.names):
        expected = whole(rows, columns)[..., place]
        if kernel_group(name) in (TEXTS, ITSELF):
            expected = torch.zeros_like(expected)
        assert torch.equal(less[..., place], expected), name


def test_a_cost_has_the_memory_that_was_held_in_between():
    with measured() as before:
        time.sleep(0.05)
    with measured() as cost:
        held = np.ones(40_000_000)  # 320 MB
        time.sleep(0.1)
        del held
    assert cost.peak_mb > before.peak_mb + 200
    assert cost.seconds >= 0.1
