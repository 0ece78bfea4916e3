"""What several tests share: the two embedded encoders, a small world and the ranker trained on it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from llmrec_spark.config import EncoderConfig
from llmrec_spark.model.ad_encoder import AdEncoder, load_ad_encoder
from llmrec_spark.model.ad_reader import Names
from llmrec_spark.model.embedded import restore_embedded_encoder
from llmrec_spark.model.taste_training import train_taste_ranker
from llmrec_spark.model.training_sample import Examples, ShownBefore
from tests.model.catalogues import simple_world, unit
from tests.model.small_world import ADS, DAYS, SETTINGS, SHOWN, USERS, sigmoid, totals_of


@pytest.fixture(scope="session")
def minilm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders") / "minilm"
    restore_embedded_encoder("minilm", folder)
    return folder


@pytest.fixture(scope="session")
def minilm(minilm_folder: Path) -> AdEncoder:
    return load_ad_encoder(str(minilm_folder), EncoderConfig(), "cpu")


@pytest.fixture(scope="session")
def multilingual(tmp_path_factory: pytest.TempPathFactory) -> AdEncoder:
    folder = tmp_path_factory.mktemp("encoders") / "multilingual"
    return load_ad_encoder(str(folder), restore_embedded_encoder("multilingual", folder), "cpu")


@pytest.fixture(scope="session")
def gpt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small GPT-like model with drawn weights; as many of its kind have it, no token to pad with, padded left."""
    from tokenizers import Tokenizer, pre_tokenizers  # here: seconds to import
    from tokenizers.models import BPE
    from tokenizers.trainers import BpeTrainer
    from transformers import GPTNeoXConfig, GPTNeoXModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("encoders") / "gpt"
    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learning = BpeTrainer(vocab_size=300, special_tokens=["<|end|>"], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["light running shoes for men", "headphones for children"], learning)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", padding_side="left")
    fast.save_pretrained(folder)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "max_position_embeddings": 512}
    torch.manual_seed(1)
    model = GPTNeoXModel(GPTNeoXConfig(vocab_size=len(fast), num_attention_heads=4, **shape))
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def log():
    """(user, day, item, position, clicked, converted) of a seeded log, and the truth behind it."""
    rng = np.random.default_rng(5)
    kind = np.arange(ADS) % 2
    likes = rng.integers(0, 2, USERS)
    pull = rng.normal(0, 0.7, ADS)
    rows = []
    for day in range(DAYS):
        for user in range(USERS):
            for position, item in enumerate(rng.choice(ADS, SHOWN, replace=False), start=1):
                liking = 1.2 if kind[item] == likes[user] else -1.2
                clicked = rng.random() < sigmoid(-1 + pull[item] + liking - 0.3 * (position - 1))
                converted = rng.random() < sigmoid(-1 + liking)
                rows.append((user, day, item, position, clicked, float(converted) if clicked else 0.0))
    columns = ["user", "day", "item", "position", "clicked", "converted"]
    return pd.DataFrame(rows, columns=columns), kind, likes, pull


@pytest.fixture(scope="session")
def world():
    spread = np.linspace(-0.3, 0.3, ADS // 2)
    vectors = {f"ad{n:02d}": unit(1 if n % 2 else -1, spread[n // 2]) for n in range(ADS)}
    return simple_world({name: {"title": one} for name, one in vectors.items()})


@pytest.fixture(scope="session")
def shown(log):
    """The Examples of the log's later days, the last of which calibrates, and what was ShownBefore each list."""
    rows, *_ = log
    kept = rows[rows.day >= 2].reset_index(drop=True)
    lists = kept.groupby(["user", "day"], sort=False).ngroup().to_numpy()
    shown, clicks, before = np.zeros(len(kept)), np.zeros(len(kept)), []
    for day, of_day in kept.groupby("day"):
        earlier = rows[rows.day < day]
        counts = earlier.groupby("item")["clicked"].agg(["size", "sum"]).reindex(range(ADS), fill_value=0)
        shown[of_day.index], clicks[of_day.index] = counts.loc[of_day["item"]].to_numpy().T
    for _, one in kept.groupby(lists):
        earlier = rows[(rows.user == one.user.iloc[0]) & (rows.day < one.day.iloc[0])]
        before.append(earlier.assign(age=one.day.iloc[0] - earlier["day"]))
    examples = Examples(
        lists,
        kept["user"].to_numpy(),
        kept["item"].to_numpy(),
        kept["position"].to_numpy(dtype=float),
        kept["clicked"].to_numpy(),
        kept["converted"].to_numpy(),
        shown,
        clicks,
        (kept["day"] < DAYS - 1).to_numpy(),
        (kept["day"] == DAYS - 1).to_numpy(),
        np.zeros(len(kept)),
    )
    joined = pd.concat(before)
    offsets = np.concatenate([[0], np.cumsum([len(one) for one in before])])
    flat = (joined[name].to_numpy() for name in ("item", "clicked", "position"))
    seen = ShownBefore(*flat, offsets, joined["age"].to_numpy(dtype=float))
    return examples, seen


@pytest.fixture(scope="session")
def train(world):
    """Trains with settings on examples and what was shown before."""
    columns, names = (
        np.stack([np.arange(ADS, dtype=float), np.arange(ADS) // 2 % 5], axis=1),
        Names(("length",), ("maker",)),
    )

    def train_on(settings, examples, seen):
        given = (world.catalogue(), world.fields, columns, names, examples, seen, totals_of(examples), settings)
        return train_taste_ranker(*given)

    return train_on


@pytest.fixture(scope="session")
def trained(shown, train):
    examples, seen = shown
    return (
        train(SETTINGS, examples, seen),
        examples,
        lambda settings: train(settings, examples, seen),
        seen,
        totals_of(examples),
    )
