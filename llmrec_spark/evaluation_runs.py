"""One evaluation per day asked for: judged, printed, reported, tracked, and who is to know of alerts told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd
from pyspark.sql import Row

from llmrec_spark.config import Config
from llmrec_spark.daily_evaluation import Evaluation, evaluate_day
from llmrec_spark.daily_inputs import Inputs, read_inputs
from llmrec_spark.daily_publishing import evaluated_run
from llmrec_spark.errors import AlertError, LlmrecError
from llmrec_spark.evaluation_reports import write_report
from llmrec_spark.evaluation_summary import evaluation_rows, say_evaluation
from llmrec_spark.evaluation_tables import EVALUATED
from llmrec_spark.notifications import call_hooks
from llmrec_spark.registry import log_evaluation_run
from llmrec_spark.run_notices import export, told, warn
from llmrec_spark.runs import Run, say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RANKINGS

JOB = "evaluate_daily"


def evaluate_days(
    storage: Storage,
    config: Config,
    days: Sequence[date],
    *,
    against: str | None = None,
    fail_on_alert: bool = False,
) -> None:
    """Judges the published run of each day by what happened, beside another run of that day where one is named.

    With `fail_on_alert`, raises AlertError where figures left their bounds, once every day is done.
    """
    alerts = {}
    for day in days:
        judged = evaluated_run(storage, day, None)
        inputs = read_inputs(storage, config)
        run = _run(storage, judged, inputs)
        with told(storage, config.notify, run, {**inputs.where, RANKINGS.name: storage.where(RANKINGS)}) as written:
            try:
                evaluated = evaluate_day(storage, config, inputs, judged, against=against)
            except LlmrecError:
                run.status = "failed"
                export(config.notify, run)
                raise
            written += EVALUATED.values()
        rows = evaluation_rows(storage, evaluated)
        say_evaluation(evaluated, rows)
        page, file = write_report(storage, config, evaluated, rows)
        say(f"\nreport: {file or 'in MLflow, since the tables are in no folder of this machine'}")
        run.counts = evaluated.counts
        figures = _figures(evaluated, rows)
        export(config.notify, run, figures)
        _track(config, evaluated, figures, page)
        alerts[day] = _tell_alerts(config, evaluated)
    left = "; ".join(f"{day}: {', '.join(names)}" for day, names in alerts.items() if names)
    if fail_on_alert and left:
        raise AlertError(
            f"alerts: figures left their bounds ({left}). The days are evaluated; see the report, or change drift: in "
            "the configuration where a bound is too narrow for this data."
        )


def _run(storage: Storage, judged: Row, inputs: Inputs) -> Run:
    """The evaluation as who is told of runs knows it; `runs` has no row of it."""
    return Run(
        storage=storage,
        run_id=judged.run_id,
        job=JOB,
        run_date=judged.run_date,
        model_version=judged.model_version,
        model_digest=judged.model_digest,
        config_digest=judged.config_digest,
        input_versions=inputs.versions,
    )


def _tell_alerts(config: Config, evaluated: Evaluation) -> list[str]:
    """Calls the hooks where there are alerts; a hook that fails is a warning. Returns the names of the alerts."""
    alerts = evaluated.drift.alerts
    if alerts:
        message = {
            "job": JOB,
            "run_date": evaluated.run_date,
            "run_id": evaluated.run.run_id,
            "alerts": [
                {"name": one.name, "value": one.value, "bound": one.bound, "reason": one.reason} for one in alerts
            ],
        }
        for failure in call_hooks(config.notify.hooks, message):
            warn(failure)
    return [one.name for one in alerts]


def _figures(evaluated: Evaluation, rows: pd.DataFrame) -> dict[str, float]:
    """metric.scorer of what holds for all users, drift.<check>, and how many alerts there are."""
    known = rows[(rows["slice"] == "all") & rows["value"].notna()]
    checked = evaluated.drift.checks.dropna(subset="value")
    return {
        **{f"{row.metric}.{row.scorer}": float(row.value) for row in known.itertuples()},
        **{f"drift.{row.name}": float(row.value) for row in checked.itertuples()},
        "alerts": float(len(evaluated.drift.alerts)),
    }


def _track(config: Config, evaluated: Evaluation, figures: dict[str, float], page: str) -> None:
    """One MLflow run per evaluation: what holds for all users. A store that fails is a warning: the tables stand."""
    facts = {
        "job": JOB,
        "run_date": evaluated.run_date,
        "run_id": evaluated.run.run_id,
        "model_version": evaluated.run.model_version,
        "evaluated_through": evaluated.through.isoformat(),
    }
    try:
        log_evaluation_run(config, facts, {**evaluated.counts, **figures}, page)
    except Exception as error:
        said = str(error).splitlines()[0][:200]
        warn(f"MLflow has no record of the evaluation of {evaluated.run_date}: {said}")
