"""What the report of an evaluated day says, taken from the tables, and where it is kept."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.daily_drift import Drift
from llmrec_spark.daily_evaluation import Evaluation
from llmrec_spark.evaluation_tables import EVALUATIONS, RELIABILITY
from llmrec_spark.report_examples import examples_in_words
from llmrec_spark.report_words import check_label
from llmrec_spark.reports import ReportData, render_editions, render_report
from llmrec_spark.storage import Storage, absolute
from llmrec_spark.tables import RECOMMENDATIONS

DAYS_BEFORE = 28  # that a report compares with
DAYS_DRAWN = 4  # whose scores are drawn, the day itself among them
NOT_COMPUTED = (
    ("interval of coverage", "A replicate of the bootstrap leaves out a third of the lists, and with them ads."),
)


def write_report(storage: Storage, config: Config, evaluated: Evaluation, rows: pd.DataFrame) -> tuple[str, str | None]:
    """The page for everybody, without a person, and where the edition with examples was written.

    That edition lies beside the tables, whose readers may see who did what: None where these are in no folder of this
    machine, and there is none.
    """
    data = report_data(storage, config, evaluated, rows)
    root = config.tables.root
    if root is None or "://" in root:
        return render_report(data), None
    page, with_examples = render_editions(replace(data, examples=examples_in_words(storage, config, evaluated)))
    file = Path(absolute(root)) / "reports" / f"{evaluated.run_date}_{evaluated.run.run_id}.html"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(with_examples, encoding="utf-8")
    return page, str(file)


def report_data(storage: Storage, config: Config, evaluated: Evaluation, rows: pd.DataFrame) -> ReportData:
    """All that the report of a day says; `rows` are its rows of `evaluations`. No id of a user is in it."""
    run = evaluated.run
    reliability = storage.read(RELIABILITY).where(
        (F.col("run_date") == F.lit(str(evaluated.run_date)).cast("date"))
        & (F.col("run_id") == run.run_id)
        & (F.col("evaluated_through") == F.lit(evaluated.through))
    )
    return ReportData(
        run_date=evaluated.run_date,
        run_id=run.run_id,
        model_version=run.model_version,
        model_digest=run.model_digest,
        input_versions=dict(run.input_versions),
        evaluated_through=evaluated.through,
        evaluations=rows,
        previous=pd.DataFrame(_days_before(storage, evaluated).toPandas()),
        reliability=pd.DataFrame(reliability.orderBy("scorer", "bin").toPandas()),
        scores={name: dict(list(days.items())[-DAYS_DRAWN:]) for name, days in evaluated.drift.samples.items()},
        drift=evaluated.drift.checks.assign(name=evaluated.drift.checks["name"].map(check_label)),
        seconds=dict(run.seconds),
        counts={**run.counts, **evaluated.counts},
        not_computed=[*NOT_COMPUTED, *_not_computed(rows, evaluated.drift), *evaluated.refused],
        examples=None,
        currency=config.value.currency,
    )


def _days_before(storage: Storage, evaluated: Evaluation) -> DataFrame:
    """The newest evaluation of each of the days before, of the run that the day shows now."""
    first, day = evaluated.run_date - timedelta(days=DAYS_BEFORE), evaluated.run_date
    of_days = (F.col("run_date") >= F.lit(str(first)).cast("date")) & (F.col("run_date") < F.lit(str(day)).cast("date"))
    shown = storage.read(RECOMMENDATIONS).where(of_days).select("run_date", "run_id").distinct()
    found = storage.read(EVALUATIONS).where(of_days).join(shown, on=["run_date", "run_id"], how="left_semi")
    latest = found.withColumn("newest", F.max("evaluated_through").over(Window.partitionBy("run_date")))
    return latest.where("evaluated_through = newest").select(
        "run_date", "scorer", "metric", "k", "slice", "value", "low", "high", "n"
    )


def _not_computed(rows: pd.DataFrame, drift: Drift) -> list[tuple[str, str]]:
    """What has no value on this day, and why."""
    every = rows[rows["slice"] == "all"]
    known = set(every.loc[every["value"].notna(), "metric"])
    missing = []
    if "p_click" not in set(every["scorer"]):
        missing.append(("calibration of p_click", "p_click is NULL: no calibrated model scored."))
    if "roi" not in known:
        missing.append(("ROI", "The log has no costs."))
    if "diversity" not in known:
        missing.append(("diversity", "No list has two ads with vectors, or an earlier version scored: score again."))
    if "serendipity" not in known:
        missing.append(("serendipity", "Nobody was shown an ad of the top of the list."))
    if "cvr" not in known:
        missing.append(("conversion rate", "Nothing was clicked."))
    if not drift.days_before:
        missing.append(("drift", "No day of the window before is published and evaluated."))
    return missing
