"""What train_model and score_daily say where a model cannot be trained, or is not; on the golden tables."""

import json
import shutil
from pathlib import Path

import pytest
from mlflow import MlflowClient

from llmrec_spark.config import MlflowConfig
from llmrec_spark.model.checkpoint import write_trained_model
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.registry import search_log
from llmrec_spark.tracked_trials import Trial
from tests.jobs.conftest import DAY, job


def test_a_model_without_a_ranker_cannot_order_by_expected_value(conf, model_folder, tmp_path):
    by_value = ("--set", "ranking.order_by=expected_value")
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, *by_value)
    assert code == 78, said
    assert "is not trained" in said
    assert "jobs/train_model.py" in said
    assert not (tmp_path / "own").exists()


def test_columns_that_the_ads_lack_are_named_before_any_work(conf, model_folder, tmp_path):
    unknown = ("--set", "ranker.columns=[colour]")
    code, said = job("train_model", "--config", conf, *DAY, "--model", model_folder, *unknown)
    assert code == 65, said
    assert "lacks the columns ['colour']" in said
    assert not (tmp_path / "own" / "training_examples").exists()


def test_a_folder_that_is_there_is_refused_before_any_work(conf, model_folder, tmp_path):
    (tmp_path / "mine").mkdir()
    code, said = job("train_model", "--config", conf, *DAY, "--model", model_folder, "--folder", tmp_path / "mine")
    assert code == 78, said
    assert f"model {tmp_path / 'mine'}: exists already" in said
    assert not (tmp_path / "own" / "training_examples").exists()


def test_rankers_that_find_neighbours_in_two_ways_are_not_judged_together(conf, model_folder, tmp_path):
    settings = RankerConfig(neighbours="co_click")
    write_trained_model(tmp_path / "base", model_folder, Path.mkdir, settings=settings, conversion_days=7, card="")
    other = ("--set", "ranker.neighbours=ease")
    code, said = job("train_model", "--config", conf, *DAY, "--model", tmp_path / "base", *other)
    assert code == 78, said
    assert "reads neighbours by co_click, ranker.neighbours is ease; expected one way" in said
    assert not (tmp_path / "own" / "training_examples").exists()


@pytest.mark.parametrize("name", ["train_model", "score_daily"])
def test_rerankers_of_another_version_are_refused_before_any_work(conf, model_folder, tmp_path, name):
    def save(folder):
        folder.mkdir()
        of_before = {"kernels": ["same"], "columns": [], "weights": {"taste": 1.0, "linear": 1.0}}
        (folder / "reranker.json").write_text(json.dumps(of_before), encoding="utf-8")

    settings = RankerConfig(rerank=("linear",))
    write_trained_model(tmp_path / "base", model_folder, save, settings=settings, conversion_days=7, card="")
    code, said = job(name, "--config", conf, *DAY, "--model", tmp_path / "base")
    assert code == 78, said
    assert "trained on other features than this version" in said
    assert "with an untrained version as --model" in said
    assert not (tmp_path / "own").exists()


def test_days_before_the_log_began_have_nothing_to_learn_from(conf, model_folder):
    code, said = job("train_model", "--config", conf, "--date", "2020-03-01", "--model", model_folder)
    assert code == 65, said
    assert "0 lists" in said
    assert "training.train_days" in said


def test_a_search_without_validation_is_refused_before_any_work(conf, model_folder, tmp_path):
    none = ("--set", "training.validation_days=0", "--search", "2")
    code, said = job("train_model", "--config", conf, *DAY, "--model", model_folder, *none)
    assert code == 78, said
    assert "training.validation_days is 0" in said
    assert not (tmp_path / "own" / "training_examples").exists()


def test_the_run_of_a_stopped_search_is_gone_on_with_and_no_trial_is_logged_twice(empty_registry, tmp_path):
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    config = MlflowConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_root=str(tmp_path / "art"))
    client = MlflowClient(config.tracking_uri)
    one = Trial(1, {"effect_spread": 0.6, "rerank": ""}, 0.61, 2.5, 1_700_000_000_000)
    two = Trial(2, {"effect_spread": 0.9, "rerank": "trees"}, None, 0.5, 1_700_000_003_000, "ValueError: too wide")

    def stopped():
        with search_log(config, "a-search", 10) as (run, log):
            log([one])
            raise KeyboardInterrupt(run)

    with pytest.raises(KeyboardInterrupt) as stop:
        stopped()
    [first] = stop.value.args
    assert client.get_run(first).info.status == "FAILED"
    with search_log(config, "a-search", 10) as (second, log):
        log([one])
        log([two])
    with search_log(config, "another", 10) as (other, _):
        assert other != first
    assert second == first
    experiment = [client.get_run(first).info.experiment_id]
    nested = client.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{first}'", order_by=["start_time"])
    assert [run.info.status for run in nested] == ["FINISHED", "FAILED"]
    assert nested[0].data.metrics == {"validation_ndcg_10": 0.61, "seconds": 2.5}
    assert nested[1].data.params == {"ranker.effect_spread": "0.9", "ranker.rerank": "trees"}
    assert nested[1].data.tags["error"] == "ValueError: too wide"
    assert nested[1].info.end_time - nested[1].info.start_time == 500
