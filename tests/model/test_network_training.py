"""The network of a reranker learned from a task: kept on disk, gone on with after a kill."""

import pytest
import torch

from llmrec_spark.errors import ConfigError
from llmrec_spark.model import training_loop
from llmrec_spark.model.network_training import NetworkTask, learn_network, load_task
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from tests.model.network_data import ad_table, lists

SMALL = NetworkConfig(width=8, heads=2, dropout=0.3)


def task(seed=0, **learning):
    settings = TrainingSettings.model_validate({"epochs": 2, "patience": None, "checkpoint_steps": 1, **learning})
    return NetworkTask(lists(150, seed=seed), ad_table(), SMALL, settings, torch.arange(130), torch.arange(130, 150))


def same(one, other):
    return all(torch.equal(value, other.network.state_dict()[name]) for name, value in one.network.state_dict().items())


def test_a_task_is_on_disk_what_it_was(tmp_path):
    first = task()
    first.save(tmp_path)
    again = load_task(tmp_path)
    assert again.digest == first.digest
    assert again.tensors.keys() == first.tensors.keys()
    assert same(learn_network(again), learn_network(first))


OTHERS = {
    "lists": task(seed=1),
    "settings": task(epochs=3),
    "shape": task()._replace(config=NetworkConfig(width=16)),
    "code": task()._replace(code="other"),
    "split": task()._replace(learns=torch.arange(9)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_another_task_has_another_digest_and_one_with_another_folder_has_not(other):
    assert OTHERS[other].digest != task().digest
    assert task(folder="elsewhere").digest == task().digest


def test_a_killed_task_goes_on_and_another_one_in_the_same_folder_begins(tmp_path, monkeypatch):
    whole, step, steps = learn_network(task()), training_loop.step, []

    def counted(*arguments, **options):
        if len(steps) == 4:
            raise KeyboardInterrupt
        steps.append(1)
        return step(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(training_loop, "step", counted)
        with pytest.raises(KeyboardInterrupt):
            learn_network(task(folder=str(tmp_path)))
    assert len(steps) == 4
    assert not same(learn_network(task(seed=1, folder=str(tmp_path))), whole)
    monkeypatch.setattr(training_loop, "step", lambda *given, **options: steps.append(2) or step(*given, **options))
    assert same(learn_network(task(folder=str(tmp_path))), whole)
    assert steps.count(2) == whole.steps - 4


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_refused():
    with pytest.raises(
        ConfigError, match=r"ranker\.learning\.device: is cuda, and torch finds 0 GPUs here; expected 1"
    ):
        learn_network(task(device="cuda"))
