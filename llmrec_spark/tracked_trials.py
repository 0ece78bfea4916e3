"""Trials of a search as runs nested in the run of their training. Every function takes an open MlflowClient."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

SEARCH, TRIAL, PARENT = "search", "trial", "mlflow.parentRunId"  # tags; the last is MLflow's own
REGISTERED = "model_digest"  # a parameter of a run that got as far as its model
FINISHED, FAILED = "FINISHED", "FAILED"
AT_ONCE = 1_000
LONGEST_TAG = 4_000  # characters


class Trial(NamedTuple):
    """Settings that were tried."""

    number: int  # from 1, in the order begun
    settings: Mapping[str, Any]
    ndcg: float | None  # of the validation lists; None: it failed
    seconds: float
    begun_ms: int  # since 1970, UTC
    error: str = ""


def open_run(client: Any, experiment: str, search: str, name: str) -> str:
    """The run_id of the training whose search was stopped before its model was there, or of a new one."""
    of_search = f"tags.{SEARCH} = '{search}' and attributes.status != '{FINISHED}'"
    stopped = [run for run in client.search_runs([experiment], of_search) if REGISTERED not in run.data.params]
    if stopped:
        client.update_run(stopped[0].info.run_id, status="RUNNING")
        return str(stopped[0].info.run_id)
    return str(client.create_run(experiment, tags={SEARCH: search}, run_name=name).info.run_id)


def log_trials(client: Any, experiment: str, run_id: str, trials: Iterable[Trial], k: int) -> None:
    """One run, nested in `run_id`, for each of the trials that has none."""
    nested = client.search_runs([experiment], f"tags.{PARENT} = '{run_id}'", max_results=AT_ONCE)
    there = {run.data.tags[TRIAL] for run in nested if run.info.end_time}
    for trial in trials:
        if str(trial.number) not in there:
            _log_trial(client, experiment, run_id, trial, k)


def _log_trial(client: Any, experiment: str, parent: str, trial: Trial, k: int) -> None:
    tags = {PARENT: parent, TRIAL: str(trial.number)}
    if trial.error:
        tags["error"] = trial.error[:LONGEST_TAG]
    name = f"trial {trial.number}"
    run = client.create_run(experiment, start_time=trial.begun_ms, tags=tags, run_name=name).info.run_id
    for setting, value in trial.settings.items():
        client.log_param(run, f"ranker.{setting}", value if value != "" else "none")
    if trial.ndcg is not None:
        client.log_metric(run, f"validation_ndcg_{k}", trial.ndcg)
    client.log_metric(run, "seconds", trial.seconds)
    status = FINISHED if trial.ndcg is not None else FAILED
    client.set_terminated(run, status, end_time=trial.begun_ms + int(1000 * trial.seconds))
