"""Settings of a ranker searched: each trial trains on the lists that train and is judged on those of validation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from llmrec_spark.config import Config
from llmrec_spark.errors import ConfigError, DataError
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.registry import ResolvedModel, search_log
from llmrec_spark.runs import say
from llmrec_spark.search_config import COLUMN
from llmrec_spark.settings_search import Budget, Search, open_study
from llmrec_spark.tracked_trials import Trial

if TYPE_CHECKING:
    from llmrec_spark.model.taste_training import Trained
    from llmrec_spark.model.training_sample import Examples, Sample, ShownBefore

Train = Callable[[RankerConfig, "Examples", "ShownBefore"], "Trained"]


def check_searchable(config: Config) -> None:
    """Raises ConfigError where no lists are kept for validation."""
    if not config.training.has_validation:
        raise ConfigError(
            f"--search: training.validation_days is {config.training.validation_days}, training.split is "
            f"{config.training.split}, training.validation_fold is {config.training.validation_fold}: no list is held "
            "back for validation, by which settings are chosen. Set validation_days to 1 or more and, with split "
            "users, validation_fold."
        )


def search_settings(
    config: Config, base: ResolvedModel, sample: Sample, train: Train, *, training_set: str, budget: Budget
) -> tuple[Search, str]:
    """What was tried within the budget, and the MLflow run that each trial is nested in.

    The rows of the test are taken out before anything is tried. Raises DataError where no list of validation tells
    orders apart.
    """
    from llmrec_spark.model.trials import validating_lists, validation_ndcg, without_test

    examples, before = without_test(sample.examples, sample.before)
    judges, k = validating_lists(examples), config.evaluation.k
    if not judges.any():
        raise DataError(
            f"--search: {len(set(examples.list[examples.calibrates]))} lists of validation, none with a click and an "
            "ad that was not clicked, which an order of settings needs. Give more days (training.validation_days) or "
            "another --date."
        )
    file = study_file(config, base, training_set)
    until = (
        f"none is begun after {budget.minutes:g} minutes" if budget.minutes is not None else "without a limit of time"
    )
    say(f"search: {budget.trials} trials by {len(set(examples.list[judges])):,} lists of validation, {until}; {file}")

    def figure(settings: RankerConfig) -> float:
        return validation_ndcg(train(settings, examples, before), examples, k=k)

    with open_study(file, config.ranker, config.search) as study, search_log(config.mlflow, file.stem, k) as (run, log):
        if study.trials:
            say(f"search: goes on after {len(study.trials)} trials")
        log(study.trials)

        def told(trial: Trial) -> None:
            say(trial_line(trial, k))
            log([trial])

        found = study.search(figure, budget, told=told)
    if len(found.trials) < budget.trials:
        say(f"search: time is over after {len(found.trials)} of {budget.trials} trials; the same command goes on")
    say(f"search: trained with trial {found.chosen.number}, {words(found.chosen)}")
    return found, run


def study_file(config: Config, base: ResolvedModel, training_set: str) -> Path:
    """One for each training set, model begun with, and settings of the search and of what is searched."""
    return Path(config.search.folder) / f"{training_set}-{base.digest[:8]}-{config.search_digest()[:8]}.db"


def trial_line(trial: Trial, k: int) -> str:
    """A trial as a line for a terminal."""
    found = f"nDCG@{k} {trial.ndcg:.4f}" if trial.ndcg is not None else f"failed: {trial.error}"
    return f"trial {trial.number:<4} {found}, {trial.seconds:.1f} s: {words(trial)}"


def words(trial: Trial) -> str:
    """Its settings: `effect_spread 0.6, text_rank 150, rerank none, without year`."""
    plain = [f"{name} {value or 'none'}" for name, value in trial.settings.items() if not name.startswith(COLUMN)]
    without = [name.removeprefix(COLUMN) for name, value in trial.settings.items() if value is False]
    return ", ".join([*plain, *(f"without {name}" for name in without)])
