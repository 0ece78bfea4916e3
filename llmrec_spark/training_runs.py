"""One training: learned, judged, written, registered, and its figures said."""

from __future__ import annotations

import math
import shutil
from datetime import date
from pathlib import Path

from llmrec_spark.ad_catalogue import ad_columns
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import read_inputs
from llmrec_spark.daily_runs import check_fields
from llmrec_spark.errors import TryAgainError
from llmrec_spark.input_tables import ADS
from llmrec_spark.model_cards import model_card, summary
from llmrec_spark.model_training import train
from llmrec_spark.ranker_config import KEPT_AT
from llmrec_spark.registry import NAME, TRAINING, Lesson, ResolvedModel, register_model
from llmrec_spark.runs import say
from llmrec_spark.settings_search import Budget
from llmrec_spark.storage import Storage
from llmrec_spark.training_data import forget_old_examples
from llmrec_spark.training_judgement import Training
from llmrec_spark.training_plots import training_plots
from llmrec_spark.training_search import check_searchable


def train_and_register(
    storage: Storage,
    config: Config,
    base: ResolvedModel,
    *,
    as_of: date,
    until: date | None,
    search: tuple[int, float | None] | None = None,
    ablates: bool = False,
    scratch: Path,
    folder: Path,
    aliases: tuple[str, ...],
) -> str:
    """Trains beside `base` on the days before `as_of`, writes the model to `folder` and registers it.

    search   trials and minutes: settings of config.ranker are searched first, and the best of them used
    ablates  says in model card, MLflow and lines what each part brings

    Returns the version. Raises ModelError where `folder` is there already.
    """
    from llmrec_spark.model.checkpoint import refuse_existing, write_trained_model

    refuse_existing(folder)
    budget = Budget(*search) if search is not None else None
    if budget is not None:
        check_searchable(config)
    inputs = read_inputs(storage, config)
    check_fields(base, config)
    ad_columns(inputs.tables[ADS.name], config.ranker.columns, config.ranker.groups)
    training = train(
        storage, config, inputs, base, as_of=as_of, until=until, scratch=scratch, budget=budget, ablates=ablates
    )
    config = config.model_copy(update={"ranker": training.settings})
    card = model_card(training, config, f"model {base.version}", inputs.versions)
    digest = write_trained_model(
        folder,
        base.folder,
        training.trained.ranker.save,
        settings=config.ranker,
        conversion_days=config.training.conversion_days,
        card=card,
    )
    facts = {
        "trained_at": as_of,
        "training_set": training.training_set,
        "trained_from": base.version,
        "model_digest": digest,
        "lists": len(training.sample.histories),
        "judged_on": training.split,
        **{f"input.{name}": version for name, version in inputs.versions.items()},
        **{f"ranker.{name}": value for name, value in config.ranker.model_dump(exclude=KEPT_AT).items()},
        **{f"training.{name}": value for name, value in config.training.model_dump().items()},
    }
    if training.search is not None:
        facts |= {"search.trials": len(training.search.trials), "search.chosen": training.search.chosen.number}
        facts |= {f"search.{name}": value for name, value in config.search.model_dump().items()}
    lesson = Lesson(_numbers(training), training.trained.losses, card, training_plots(training))
    version = register_model(
        folder, config.mlflow, facts, aliases=aliases, job=TRAINING, lesson=lesson, run_id=training.run_id
    )
    for checkpoints in training.checkpoints:
        shutil.rmtree(checkpoints, ignore_errors=True)
    for line in summary(training, config.evaluation.k):
        say(line)
    _forget(storage, config, as_of)
    say(f"registered {NAME} version {version}, trained from model {base.version}, alias {' '.join(aliases) or 'none'}")
    return version


def _forget(storage: Storage, config: Config, as_of: date) -> None:
    try:
        forget_old_examples(storage, config, as_of=as_of)
    except TryAgainError as error:  # the model stands; the next training forgets them
        say(f"  WARNING old examples were not forgotten: {error}")


def _numbers(training: Training) -> dict[str, float]:
    found = {f"{name}_seconds": value for name, value in training.seconds.items()}
    for scorer, of_scorer in training.judged.values.items():
        found |= {f"{scorer}.{metric}": one.value for metric, one in of_scorer.items()}
    for (one, other), difference in training.judged.differences.items():
        for metric, estimate in difference.items():
            found |= {
                f"{one} - {other}.{metric}{end}": v for end, v in zip(("", ".low", ".high"), estimate, strict=True)
            }
    for name, of in (("p_click", training.clicks), ("p_conversion", training.conversions)):
        found |= {f"{name}.calibration_error": of.error, f"{name}.log_loss": of.log_loss}
    for row in training.ablation.rows if training.ablation is not None else ():
        name = f"ablation.{row.part}"
        found |= {f"{name}.ndcg": row.ndcg.value, f"{name}.group_auc": row.group_auc.value}
        found |= {f"{name}.seconds": row.cost.seconds, f"{name}.examples_per_second": row.examples_per_second}
        if row.cost.peak_mb is not None:
            found[f"{name}.peak_mb"] = row.cost.peak_mb
    return {name: value for name, value in found.items() if math.isfinite(value)}
