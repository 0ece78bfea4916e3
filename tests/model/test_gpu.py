"""What a GPU computes is nearly what a CPU does. Skipped where torch finds none."""

import numpy as np
import pytest
import torch

from llmrec_spark.adapter_config import AdapterConfig
from llmrec_spark.config import EncoderConfig, MatchConfig
from llmrec_spark.model.ad_encoder import AdEncoder
from llmrec_spark.model.adapter_training import adapt_encoder
from llmrec_spark.model.network_training import NetworkTask, learn_network
from llmrec_spark.model.scoring import score_candidates
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from tests.model.catalogues import random_histories, random_world
from tests.model.network_data import ad_table, lists
from tests.model.test_encoder_adapter import FOLLOWED, KINDS, SMALL
from tests.model.test_scoring import FORMS, all_blocks, in_order, live_ads, requests

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")

DEVICES = ("cpu", "cuda")
TEXTS = ["light shoes for running", "跑鞋 男士 轻便", "", "dog food " * 50]
BEHAVIOURS = ["lstm", "transformer", "text"]


@pytest.mark.parametrize("name", ["minilm", "multilingual"])
def test_a_gpu_gives_texts_the_vectors_of_a_cpu(name, request):
    of_cpu = request.getfixturevalue(name)
    of_gpu = AdEncoder(of_cpu.tokenizer.name_or_path, of_cpu.settings, "cuda")
    found = of_gpu.encode(TEXTS, 4_096).vectors
    np.testing.assert_allclose(found, of_cpu.encode(TEXTS, 4_096).vectors, atol=1e-5)
    halved = of_cpu.settings.model_copy(update={"dtype": "bfloat16"})
    nearly = AdEncoder(of_cpu.tokenizer.name_or_path, halved, "cuda").encode(TEXTS, 4_096).vectors
    assert np.all(np.sum(found * nearly, axis=1) > 0.999)


@pytest.mark.parametrize("match", FORMS.values(), ids=FORMS)
def test_a_gpu_gives_ads_the_scores_of_a_cpu(match: MatchConfig, tmp_path):
    world = random_world(3)
    users = random_histories(3, world)
    rows = requests(users, candidates=[sorted(world.live)] * len(users))
    numbers = ["match", "background", "rate", "lift", "score"]
    for ways in (all_blocks, score_candidates):
        found = [in_order(ways(live_ads(world, match, tmp_path, device=device), rows)) for device in DEVICES]
        assert found[0][["user_id", "ad_id"]].equals(found[1][["user_id", "ad_id"]])
        np.testing.assert_allclose(found[1][numbers], found[0][numbers], rtol=0, atol=1e-5)


def losses_of(behaviours, **learning):
    """The losses of a network that learns."""
    config = NetworkConfig(behaviours=behaviours, width=8, heads=2, dropout=0.0)
    settings = TrainingSettings.model_validate({"epochs": 2, "patience": None, **learning})
    task = NetworkTask(lists(150), ad_table(), config, settings, torch.arange(130), torch.arange(130, 150))
    return learn_network(task).losses


@pytest.mark.parametrize("behaviours", BEHAVIOURS)
def test_a_network_learns_on_a_gpu_with_the_losses_of_a_cpu(behaviours):
    of_cpu = losses_of(behaviours)
    assert losses_of(behaviours, device="cuda") == pytest.approx(of_cpu, rel=1e-3)
    assert losses_of(behaviours, device="cuda", mixed_precision=True) == pytest.approx(of_cpu, rel=3e-2)


@pytest.mark.parametrize("objective", ["next", "masked"])
def test_a_network_is_pretrained_on_a_gpu_and_varied_histories_give_it_the_losses_of_a_cpu(objective):
    learning = {
        "pretraining": {"objective": objective},
        "augmentation": {"crop": 0.2, "mask": 0.1, "reorder": 0.2},
        "adversarial": 0.1,
    }
    assert losses_of("transformer", device="cuda", **learning) == pytest.approx(
        losses_of("transformer", **learning), rel=1e-2
    )


@pytest.mark.parametrize("kind", KINDS)
def test_an_adapter_learns_on_a_gpu_what_it_learns_on_a_cpu(kind, gpt_folder, tmp_path):
    last = EncoderConfig(pooling="last")

    def losses(name, device, **change):
        config = AdapterConfig(kind=kind, rank=4, prefix_tokens=4, batch_pairs=8, epochs=2, dropout=0.0, **change)
        return adapt_encoder(tmp_path / name, gpt_folder, last, FOLLOWED, SMALL, config, device=device)

    of_cpu = losses("cpu", "cpu")
    assert losses("gpu", "cuda") == pytest.approx(of_cpu, rel=1e-2)
    assert losses("mixed", "cuda", mixed_precision=True) == pytest.approx(of_cpu, rel=5e-2)
    texts = [one for [one] in SMALL]
    found = [AdEncoder(str(tmp_path / name), last, "cpu").encode(texts, 512).vectors for name in ("cpu", "gpu")]
    np.testing.assert_allclose(found[1], found[0], atol=2e-2)
