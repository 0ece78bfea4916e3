"""The only door to MLflow: models in its registry, one tracked run per job run.

Nothing personal goes in: counts, seconds, versions, and lists whose users are numbered.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from llmrec_spark import model_versions, tracked_trials
from llmrec_spark.config import Config, MlflowConfig
from llmrec_spark.config_section import public
from llmrec_spark.errors import ModelError, TryAgainError
from llmrec_spark.model_versions import CHALLENGER, CHAMPION, Contest
from llmrec_spark.stored_models import from_store, inside, to_store
from llmrec_spark.tracked_trials import Trial

NAME = "llmrec_ad_matcher"
SQLITE = "sqlite:///"
TRAINING = "train_model"  # the name of its run
METRICS_AT_ONCE = 1_000  # more are refused
UNLESS_SET = {  # an unreachable server costs seconds, not minutes, and the lines of a job are its own
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
}
SAFE = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}


@dataclass(frozen=True)
class ResolvedModel:
    """A model on this machine's disk, checked; `version` is the registry's, or says which folder it was."""

    folder: Path
    version: str
    digest: str
    uri: str | None = None  # models:/name/version; None of a folder


def resolve_model(uri: str, config: MlflowConfig) -> ResolvedModel:
    """The model behind a registry URI (models:/name@alias, models:/name/3) or a model folder, every file verified.

    An alias is resolved to a version once, here. Raises ModelError when there is none or it was changed.
    """
    from llmrec_spark.model.checkpoint import verify_model

    if not uri.startswith("models:/"):
        folder = Path(uri)
        if not (folder / "MANIFEST.json").is_file():
            raise ModelError(
                f"model {uri}: is no model folder (no MANIFEST.json). Expected models:/{NAME}@{CHAMPION}, "
                f"models:/{NAME}/1 or a folder that jobs/register_model.py wrote."
            )
        digest = verify_model(folder)
        return ResolvedModel(folder, f"folder:{digest[:12]}", digest)
    with _existing(config, uri) as mlflow:
        name, version = _version(mlflow, uri)
        pinned = f"models:/{name}/{version}"
        folder = from_store(_stored(mlflow, pinned), lambda base: _stored(mlflow, base))
    return ResolvedModel(folder, version, verify_model(folder), pinned)


def _stored(mlflow: Any, uri: str) -> Path:
    return inside(Path(mlflow.artifacts.download_artifacts(uri)))


def _version(mlflow: Any, uri: str) -> tuple[str, str]:
    reference = uri.removeprefix("models:/")
    client = mlflow.MlflowClient()
    name, at, alias = reference.partition("@")
    try:
        if at:
            return name, str(client.get_model_version_by_alias(name, alias).version)
        name, _, version = reference.partition("/")
        return name, str(client.get_model_version(name, version).version)
    except mlflow.exceptions.MlflowException as error:
        _raise_if_unreachable(error)
        known = sorted({str(version.version) for version in client.search_model_versions(f"name = '{name}'")}, key=int)
        raise ModelError(
            f"model {uri}: not in the registry at {mlflow.get_tracking_uri()}; versions of {name} there: "
            f"{', '.join(known) or 'none'}. Run jobs/register_model.py, or give --model another version or a folder."
        ) from error


@dataclass(frozen=True)
class Lesson:
    """What a training leaves in MLflow beside its model."""

    numbers: Mapping[str, float]
    losses: Sequence[float]  # of each step
    card: str  # Markdown
    plots: Mapping[str, Any]  # matplotlib figures by file name


def register_model(
    folder: Path,
    config: MlflowConfig,
    facts: Mapping[str, Any],
    *,
    aliases: tuple[str, ...],
    job: str = "register_model",
    lesson: Lesson | None = None,
    run_id: str | None = None,
) -> str:
    """Logs a model folder as models-from-code, registers it and sets aliases; returns the version.

    job      the name of its run
    run_id   of the run it is logged in, which ends with it; None: a new one
    """
    with _tracked(config, job, run_id) as (mlflow, _):
        mlflow.log_params(dict(facts))
        if lesson is not None:
            _log_lesson(mlflow, lesson)
        info = mlflow.pyfunc.log_model(
            name="model",
            python_model=str(Path(__file__).with_name("registered_model.py")),
            artifacts={"model": str(to_store(folder, lambda base: _stored(mlflow, base)))},
            pip_requirements=["llmrec_spark"],
            registered_model_name=NAME,
        )
        version = str(info.registered_model_version)
        for alias in aliases:
            model_versions.set_alias(mlflow.MlflowClient(), NAME, alias, version)
    return version


@contextmanager
def search_log(config: MlflowConfig, search: str, k: int) -> Iterator[tuple[str, Callable[[Sequence[Trial]], None]]]:
    """The run_id of the training that `search` is of, and what logs those of its trials that were not logged yet.

    The run is the one that was stopped before, or a new one; register_model ends it. It has failed if the block raises.
    """
    with _with_experiment(config) as (mlflow, experiment):
        client = mlflow.MlflowClient()
        run = tracked_trials.open_run(client, experiment, search, TRAINING)
        try:
            yield run, lambda trials: tracked_trials.log_trials(client, experiment, run, trials, k)
        except BaseException:
            client.set_terminated(run, tracked_trials.FAILED)
            raise


def _log_lesson(mlflow: Any, lesson: Lesson) -> None:
    now = int(time.time() * 1000)
    metric = mlflow.entities.Metric
    metrics = [metric("loss", float(loss), now, step) for step, loss in enumerate(lesson.losses)]
    metrics += [metric(_metric_name(name), float(value), now, 0) for name, value in lesson.numbers.items()]
    run = mlflow.active_run().info.run_id
    for start in range(0, len(metrics), METRICS_AT_ONCE):
        mlflow.MlflowClient().log_batch(run, metrics=metrics[start : start + METRICS_AT_ONCE])
    mlflow.log_text(lesson.card, "model_card.md")
    for name, plot in lesson.plots.items():
        mlflow.log_figure(plot, name)


def aliases_of_new(config: MlflowConfig, asked: str | None) -> tuple[str, ...]:
    """The alias asked for, none where that is empty; of None `champion` where none is, else `challenger`."""
    if asked is not None:
        return (asked,) if asked else ()
    with _with_experiment(config) as (mlflow, _):
        return (CHALLENGER if model_versions.has_champion(mlflow.MlflowClient(), NAME) else CHAMPION,)


def open_contest(uri: str, config: MlflowConfig) -> Contest:
    """The registered version behind a URI and the champion of its model; raises as model_versions.open_contest does."""
    with _existing(config, uri) as mlflow:
        return model_versions.open_contest(mlflow.MlflowClient(), uri)


def promote(
    contest: Contest, config: MlflowConfig, facts: Mapping[str, Any], numbers: Mapping[str, float], gates: str
) -> bool:
    """Makes the challenger champion; one MLflow run keeps why: facts as tags, numbers as metrics, gates as a text.

    The alias `challenger` is taken from the version; returns whether it had it.
    """
    of = contest.challenger
    with _tracked(config, f"promote_model {of.number}") as (mlflow, run):
        mlflow.set_tags({name: str(value) for name, value in facts.items()})
        mlflow.log_metrics({_metric_name(name): float(value) for name, value in numbers.items()})
        mlflow.log_text(gates, "gates.txt")
        client = mlflow.MlflowClient()
        model_versions.set_alias(client, of.name, CHAMPION, of.number, {"promotion_run": run.info.run_id})
        return model_versions.remove_alias(client, of.name, CHALLENGER, of.number)


def roll_back(config: MlflowConfig, name: str = NAME) -> tuple[str, str]:
    """The champion before is champion again: the version that was it until now, and the one that is."""
    with _existing(config, f"models:/{name}@{CHAMPION}") as mlflow:
        return model_versions.step_back(mlflow.MlflowClient(), name)


def log_scoring_run(config: Config, facts: Mapping[str, Any], numbers: Mapping[str, float], lists: pd.DataFrame) -> str:
    """One MLflow run per scored day: facts as tags, config as a file, numbers as metrics, lists as a table."""
    with _tracked(config.mlflow, f"score_daily {facts['run_date']}") as (mlflow, run):
        mlflow.set_tags({name: str(value) for name, value in facts.items()})
        settings = config.model_dump(mode="json", exclude={"notify"})  # its URLs and arguments may be secrets
        mlflow.log_dict(public(settings), "config.json")
        mlflow.log_metrics({_metric_name(name): float(value) for name, value in numbers.items()})
        if len(lists):
            mlflow.log_table(lists, "example_lists.json")
        return str(run.info.run_id)


def log_evaluation_run(config: Config, facts: Mapping[str, Any], numbers: Mapping[str, float], report: str) -> None:
    """One MLflow run per evaluated day: facts as tags, numbers as metrics, the report as a page."""
    with _tracked(config.mlflow, f"evaluate_daily {facts['run_date']}") as (mlflow, _):
        mlflow.set_tags({name: str(value) for name, value in facts.items()})
        mlflow.log_metrics({_metric_name(name): float(value) for name, value in numbers.items()})
        mlflow.log_text(report, "report.html")


def _metric_name(name: str) -> str:
    return "".join(character if character.isalnum() or character in "_-./ " else "_" for character in name)


def import_mlflow_beside() -> None:
    """Begins to import MLflow, which takes seconds, in a thread beside what comes next: the start of Spark."""
    threading.Thread(target=_import_mlflow, daemon=True).start()


def _import_mlflow() -> Any:
    os.environ.update({name: value for name, value in UNLESS_SET.items() if name not in os.environ} | SAFE)
    import mlflow  # here: only where a registry is asked

    return mlflow


@contextmanager
def _mlflow(config: MlflowConfig) -> Iterator[Any]:
    """MLflow set on the configured store. Raises TryAgainError when the store does not answer."""
    mlflow = _import_mlflow()
    try:
        mlflow.set_tracking_uri(config.tracking_uri)
        yield mlflow
    except mlflow.exceptions.MlflowException as error:
        _raise_if_unreachable(error)
        raise


@contextmanager
def _existing(config: MlflowConfig, uri: str) -> Iterator[Any]:
    """As _mlflow; raises ModelError where the file of a local store is not there, which MLflow would make."""
    if config.tracking_uri.startswith(SQLITE) and not Path(config.tracking_uri.removeprefix(SQLITE)).exists():
        raise ModelError(
            f"model {uri}: there is no registry at {config.tracking_uri} (mlflow.tracking_uri). Run "
            "jobs/register_model.py, or give --model a folder."
        )
    with _mlflow(config) as mlflow:
        yield mlflow


@contextmanager
def _with_experiment(config: MlflowConfig) -> Iterator[tuple[Any, str]]:
    """MLflow and the id of the configured experiment, which is made where it is not."""
    if config.tracking_uri.startswith(SQLITE):
        Path(config.tracking_uri.removeprefix(SQLITE)).parent.mkdir(parents=True, exist_ok=True)
    with _mlflow(config) as mlflow:
        if mlflow.get_experiment_by_name(config.experiment) is None:
            root = config.artifact_root
            location = Path(root).resolve().as_uri() if root and "://" not in root else root
            try:
                mlflow.create_experiment(config.experiment, artifact_location=location)
            except mlflow.exceptions.MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # another job was faster
                    raise
        yield mlflow, str(mlflow.set_experiment(config.experiment).experiment_id)


@contextmanager
def _tracked(config: MlflowConfig, run_name: str, run_id: str | None = None) -> Iterator[tuple[Any, Any]]:
    """MLflow and a run in the configured experiment: the one named, or a new one."""
    with _with_experiment(config) as (mlflow, _), mlflow.start_run(run_id=run_id, run_name=run_name) as run:
        yield mlflow, run


def _raise_if_unreachable(error: Exception) -> None:
    message = str(error)
    if "API request to" in message or "Max retries" in message or "Connection" in message:
        raise TryAgainError(
            f"MLflow does not answer ({message.splitlines()[0][:200]}). Start the server of mlflow.tracking_uri, or "
            "try again."
        ) from error
