"""A network learned by two processes that TorchDistributor starts, through Spark, on this machine."""

from dataclasses import replace

import pytest
import torch

from llmrec_spark.distributed_training import NetworkLearner, check_gpus_of_tasks, meeting_place
from llmrec_spark.errors import ConfigError, ModelError
from llmrec_spark.model.network_training import NetworkTask, learn_network
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from tests.model.network_data import ad_table, lists

SMALL = NetworkConfig(width=8, heads=2, dropout=0.0)


def task(batch=None, **learning):
    settings = TrainingSettings.model_validate({"epochs": 2, "patience": None, **learning})
    return NetworkTask(batch or lists(100), ad_table(), SMALL, settings, torch.arange(80), torch.arange(80, 100))


@pytest.fixture
def at_home(monkeypatch):
    """Processes that meet on this machine alone, whatever its name resolves to."""
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "lo")


def test_two_processes_learn_what_one_learns(spark, tmp_path, at_home):
    one = learn_network(task())
    together = NetworkLearner(spark, tmp_path)(task(processes=2))
    assert together.losses == pytest.approx(one.losses, rel=1e-4)
    assert together.validations == pytest.approx(one.validations, rel=1e-3)
    for name, value in together.network.state_dict().items():
        assert torch.allclose(value, one.network.state_dict()[name], atol=2e-3), name
    assert not list(tmp_path.iterdir())  # what they learned from is removed


def test_processes_that_cannot_begin_are_told_of(spark, tmp_path):
    """Spark has no GPU to give."""
    with pytest.raises(ModelError, match=r"the 2 processes that learn it have not ended well .*GPU"):
        NetworkLearner(spark, tmp_path)(task(processes=2, device="cuda"))
    assert not list(tmp_path.iterdir())


def test_one_process_is_the_jobs_own(spark, tmp_path):
    learned = NetworkLearner(spark, tmp_path)(task())
    assert learned.losses == learn_network(task()).losses


def test_processes_of_a_cluster_want_a_folder_that_all_of_them_reach(tmp_path):
    settings = task(processes=2).settings
    assert meeting_place(settings, "local[4]", tmp_path) == tmp_path
    with pytest.raises(ConfigError, match=r"ranker\.learning\.folder: is null, expected a folder that all 2 processes"):
        meeting_place(settings, "spark://somewhere:7077", tmp_path)
    shared = settings.model_copy(update={"folder": "/shared"})
    assert str(meeting_place(shared, "spark://somewhere:7077", tmp_path)) == "/shared"


@pytest.mark.parametrize("amount", [None, "0", "0.25"])
def test_processes_of_a_cluster_that_learn_on_gpus_do_not_share_them(amount):
    on_gpus = task(processes=2, device="cuda").settings
    found = amount or "not set"
    with pytest.raises(ConfigError, match=rf"spark\.task\.resource\.gpu\.amount: is {found}, expected a whole number"):
        check_gpus_of_tasks(on_gpus, "spark://somewhere:7077", amount)
    check_gpus_of_tasks(on_gpus, "spark://somewhere:7077", "1")
    check_gpus_of_tasks(on_gpus, "local[4]", amount)
    check_gpus_of_tasks(task(processes=2).settings, "spark://somewhere:7077", amount)


def test_where_nothing_is_kept_every_network_is_learned_anew(spark, tmp_path, capsys):
    kept, learner = task(folder=str(tmp_path / "kept")), NetworkLearner(spark, tmp_path)
    first = learner(kept)
    assert [folder.parent for folder in learner.checkpoints] == [tmp_path / "kept"]
    assert "goes on from" not in capsys.readouterr().out
    again = learner(kept)
    assert f"network: goes on from {next(iter(learner.checkpoints))}" in capsys.readouterr().out
    assert again.losses == first.losses
    anew = replace(learner, resumes=False)
    assert anew(kept).losses == first.losses
    assert "goes on from" not in capsys.readouterr().out
