"""Who is told of a run: OpenLineage that it starts and how it ends, Prometheus what it counted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, time
from typing import Literal

from llmrec_spark.config import NotifyConfig
from llmrec_spark.errors import LlmrecError
from llmrec_spark.notifications import emit_lineage, write_prometheus
from llmrec_spark.runs import Run, say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import Table


@contextmanager
def told(storage: Storage, config: NotifyConfig, run: Run, inputs: Mapping[str, str]) -> Iterator[list[Table]]:
    """Around a run: START, then COMPLETE with the tables that were added to the list this gives, or FAIL.

    inputs: name -> where. An error of ours goes out with its message, which holds counts; of any other only the kind.
    """
    written: list[Table] = []

    def tell(
        event: Literal["START", "COMPLETE", "FAIL"], outputs: Sequence[str] = (), error: str | None = None
    ) -> None:
        found = emit_lineage(
            config,
            job=run.job,
            run_id=run.run_id,
            run_date=run.run_date,
            event=event,
            inputs=inputs,
            input_versions=run.input_versions,
            outputs=outputs,
            error=error,
        )
        warn(found)

    tell("START")
    try:
        yield written
    except Exception as error:
        said = f": {error}" if isinstance(error, LlmrecError) else ""
        tell("FAIL", error=f"{type(error).__name__}{said}")
        raise
    tell("COMPLETE", [storage.where(table) for table in written])


def export(config: NotifyConfig, run: Run, figures: Mapping[str, float] | None = None) -> None:
    """Prometheus' file, where one is configured: the run's counts and seconds, whether it failed, its day, and
    `figures` of the job.
    """
    if config.prometheus_file is None:
        return
    gauges = {
        **(figures or {}),
        **run.counts,
        **{f"{name}_seconds": seconds for name, seconds in run.seconds.items()},
        "run_failed": float(run.status in ("failed", "refused")),
        "run_date_timestamp_seconds": datetime.combine(run.run_date, time(), UTC).timestamp(),
    }
    labels = {"job": run.job, "model_version": run.model_version}  # a run_id would make every run a time series
    warn(write_prometheus(config.prometheus_file, gauges, labels))


def warn(line: str | None) -> None:
    """Prints what went wrong and did not stop the job, if anything did."""
    if line is not None:
        say(f"  WARNING {line}")
