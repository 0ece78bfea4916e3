"""One evaluation per day asked for: judged, printed, reported, tracked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import pandas as pd

from llmrec_spark.config import Config
from llmrec_spark.daily_evaluation import Evaluation, evaluate_day
from llmrec_spark.evaluation_reports import write_report
from llmrec_spark.evaluation_summary import evaluation_rows, say_evaluation
from llmrec_spark.registry import log_evaluation_run
from llmrec_spark.run_notices import warn
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage


def evaluate_days(storage: Storage, config: Config, days: Sequence[date], *, against: str | None = None) -> None:
    """Judges the published run of each day by what happened, beside another run of that day where one is named."""
    for day in days:
        evaluated = evaluate_day(storage, config, day, against=against)
        rows = evaluation_rows(storage, evaluated)
        say_evaluation(evaluated, rows)
        page, file = write_report(storage, config, evaluated, rows)
        say(f"\nreport: {file or 'in MLflow, since the tables are in no folder of this machine'}")
        _track(config, evaluated, rows, page)


def _track(config: Config, evaluated: Evaluation, rows: pd.DataFrame, page: str) -> None:
    """One MLflow run per evaluation: what holds for all users. A store that fails is a warning: the tables stand."""
    facts = {
        "job": "evaluate_daily",
        "run_date": evaluated.run_date,
        "run_id": evaluated.run.run_id,
        "model_version": evaluated.run.model_version,
        "evaluated_through": evaluated.through.isoformat(),
    }
    known = rows[(rows["slice"] == "all") & rows["value"].notna()]
    numbers = {f"{row.metric}.{row.scorer}": row.value for row in known.itertuples()}
    try:
        log_evaluation_run(config, facts, {**evaluated.counts, **numbers}, page)
    except Exception as error:
        said = str(error).splitlines()[0][:200]
        warn(f"MLflow has no record of the evaluation of {evaluated.run_date}: {said}")
