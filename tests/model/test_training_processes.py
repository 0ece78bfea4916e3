"""Two processes train as one would."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch.nn.parallel import DistributedDataParallel

from llmrec_spark.errors import DataError
from llmrec_spark.model.network_batches import ads_of
from llmrec_spark.model.training import RankingObjective, train
from llmrec_spark.model.training_steps import backward
from llmrec_spark.network_config import TrainingSettings
from tests.model.network_data import Lists, ad_table, lists, tiny_network, woken
from tests.model.test_training import EVERYTHING, NOTHING, click_against_unclicked

LISTS = 9  # in steps of 4: the last step has one list, so the second process runs out


def gradients(rows, world_size):
    """Of one step on some of the lists, by name."""
    objective = RankingObjective(woken(tiny_network()), click_against_unclicked, 1.0)
    stepped = objective
    if world_size > 1:
        stepped = DistributedDataParallel(objective, broadcast_buffers=False, find_unused_parameters=True)
    batch = lists(LISTS).rows(rows)
    ads = ads_of(batch, ad_table())
    backward(stepped, batch, ads, counts=True, adversarial=0.0, mixed_precision=False, world_size=world_size)
    return {name: value.grad for name, value in objective.named_parameters()}


def trained(rank, world_size, changes, *, folder=None, breaks_at=None):
    """Weights and losses."""
    source = Lists(lists(LISTS), 4, breaks_at=breaks_at)
    settings = TrainingSettings.model_validate({**NOTHING, **changes})
    network = tiny_network(dropout=0.3 if changes else 0.0)
    how = {"list_loss": click_against_unclicked, "steps_per_epoch": 3, "folder": folder}
    found = train(network, source, ad_table(), settings, rank=rank, world_size=world_size, **how)
    return {**found.network.state_dict(), "losses": torch.tensor(found.losses)}


def process(rank: int, folder: str) -> None:
    """What each of two processes does; it leaves what it found in files."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    found = {"gradients": gradients(torch.arange(rank, LISTS, 2), 2), "plain": trained(rank, 2, {})}
    found["whole"] = trained(rank, 2, EVERYTHING)
    try:
        trained(rank, 2, EVERYTHING, folder=Path(folder) / "killed", breaks_at=7)
    except KeyboardInterrupt:
        found["resumed"] = trained(rank, 2, EVERYTHING, folder=Path(folder) / "killed")
    for name, tensors in found.items():
        save_file({key: value.clone() for key, value in tensors.items()}, f"{folder}/{name}-{rank}.safetensors")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two processes left: by name and process."""
    folder = tmp_path_factory.mktemp("processes")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("GLOO_SOCKET_IFNAME", "lo")
        environment.setenv("OMP_NUM_THREADS", "1")
        torch.multiprocessing.spawn(process, args=(str(folder),), nprocs=2)
    return lambda name, rank: load_file(folder / f"{name}-{rank}.safetensors")


def test_the_gradient_of_two_processes_is_that_of_one(found):
    expected = gradients(torch.arange(LISTS), 1)
    for rank in (0, 1):
        for name, value in found("gradients", rank).items():
            assert torch.allclose(value, expected[name], rtol=1e-4, atol=1e-6), name


def test_two_processes_train_as_one_does_although_one_has_fewer_batches(found):
    expected = trained(0, 1, {})
    for name, value in found("plain", 0).items():
        assert torch.allclose(value, expected[name], atol=2e-3), name


@pytest.mark.parametrize("name", ["plain", "whole", "resumed"])
def test_both_processes_end_with_the_same_weights(found, name):
    one, other = found(name, 0), found(name, 1)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_two_killed_and_resumed_processes_end_as_uninterrupted_ones(found):
    whole, resumed = found("whole", 0), found("resumed", 0)
    assert all(torch.equal(value, resumed[key]) for key, value in whole.items())


def test_a_process_without_a_batch_is_refused():
    with pytest.raises(DataError, match="process 0 of 1 has no batch"):
        train(tiny_network(), lambda *place: iter(()), ad_table(), TrainingSettings(), steps_per_epoch=1)
