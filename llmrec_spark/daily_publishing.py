"""The one commit that readers see, what it supersedes, and which runs' tables are kept."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Row
from pyspark.sql import functions as F

from llmrec_spark import recommendations
from llmrec_spark.errors import DataError
from llmrec_spark.runs import Run, say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import OWN, RANKINGS, RECOMMENDATIONS, RUNS, TEXT_VECTORS

RUN_TABLES = [table for table in OWN.values() if table.name not in (RUNS.name, RECOMMENDATIONS.name, TEXT_VECTORS.name)]


LONGEST_RUN = "INTERVAL 2 DAYS"  # a running row not updated for longer belongs to a job that was killed


def published_run(storage: Storage, run_date: date) -> Row | None:
    """run_id and model_version of the run whose rows a day shows, or None where it is not published."""
    return recommendations.published_by(storage.read(RECOMMENDATIONS), run_date=run_date).first()


def refuse_expired(storage: Storage, run: Row) -> None:
    """Raises DataError where the tables behind a published row were forgotten (tables.keep_days)."""
    [row] = storage.read_run(RUNS, run.run_id).select("status").collect()
    if row.status == "expired":
        raise DataError(
            f"runs: the tables of run {run.run_id} are no longer kept; its published rows are. Raise tables.keep_days, "
            "or publish the day again with --force."
        )


def evaluated_run(storage: Storage, run_date: date, run_id: str | None) -> Row:
    """run_id, model_version, status and figures of the run that a day shows, or of another run of that day.

    Raises DataError where the day is not published, there is no such run, or its tables are no longer kept.
    """
    if run_id is None:
        published = published_run(storage, run_date)
        if published is None:
            raise DataError(
                f"recommendations: {run_date} is not published. Run jobs/score_daily.py --date {run_date} first."
            )
        run_id = published.run_id
    row = storage.read_run(RUNS, run_id).first()
    if row is None or row.run_date != run_date:
        of_day = storage.read(RUNS).where(F.col("run_date") == F.lit(str(run_date)).cast("date"))
        known = ", ".join(f"{one.run_id} ({one.status})" for one in of_day.orderBy("updated_at").collect())
        raise DataError(f"runs: {run_id} is no run of {run_date}; there are {known or 'none'}.")
    if RANKINGS.name not in row.completed and row.status != "expired":
        raise DataError(f"runs: {run_id} is {row.status} and has no rankings. Run jobs/score_daily.py again.")
    refuse_expired(storage, row)
    return row


def publish(storage: Storage, run: Run) -> int:
    """Replaces the day by the run's `rankings` in one commit that names its lineage; returns how many rows."""
    rows = recommendations.recommendations(storage.read_run(RANKINGS, run.run_id), run_date=run.run_date)
    lineage = {
        "run_id": run.run_id,
        "model_version": run.model_version,
        "model_digest": run.model_digest,
        "input_versions": dict(run.input_versions),
    }
    with run.timed(RECOMMENDATIONS.name):
        run.counts[RECOMMENDATIONS.name] = storage.publish(rows, run.run_date, lineage)
    run.is_published = True
    run.record()
    return run.counts[RECOMMENDATIONS.name]


def forget_old_runs(storage: Storage, *, keep_days: int, but: str) -> list[str]:
    """Empties the run tables of every run that is not behind one of the last `keep_days` published days.

    Shadow and refused runs of those days are kept too, and so are the run `but` and those that write now. `runs` keeps
    its rows, marked `expired`. Returns the run ids.
    """
    shown = storage.read(RECOMMENDATIONS).select("run_date", "run_id").distinct()
    days = shown.orderBy(F.desc("run_date")).limit(keep_days).collect()
    if not days:
        return []
    first, behind = min(row.run_date for row in days), [row.run_id for row in days]
    is_superseded = (F.col("status") == "published") & ~F.col("run_id").isin(behind)
    is_old = F.col("run_date") < F.lit(str(first)).cast("date")
    is_writing = (F.col("status") == "running") & (F.col("updated_at") > F.current_timestamp() - F.expr(LONGEST_RUN))
    is_kept = (F.col("status") == "expired") | (F.col("run_id") == but) | is_writing
    runs = storage.read(RUNS).where(~is_kept & (is_superseded | is_old))
    old = sorted(row.run_id for row in runs.select("run_id").collect())
    if old:
        for table in RUN_TABLES:
            storage.forget_runs(table, old)
        storage.mark_expired(RUNS, old)
        forgotten = "1 run" if len(old) == 1 else f"{len(old)} runs"
        say(f"  forgot the tables of {forgotten} behind no published day of the last {keep_days}")
    return old
