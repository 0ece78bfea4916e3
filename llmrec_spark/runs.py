"""What a run did: its stages, what they counted, how long they took, and which tables are whole and used again."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row

from llmrec_spark.session import progress
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RUNS, Table


def code_digest() -> str:
    """SHA-256 of the package's sources: other code may give other rows."""
    package = Path(__file__).parent
    digest = hashlib.sha256()
    for source in sorted(package.rglob("*.py")):
        digest.update(source.relative_to(package).as_posix().encode() + b"\0" + source.read_bytes())
    return digest.hexdigest()


ENCODED = "text_vectors "  # in `completed` before the digest of the encoder whose vectors the run read


def encoder_of(run: Row) -> str | None:
    """The digest of the encoder whose vectors a run read; None of a run of before they were named."""
    return next((one.removeprefix(ENCODED) for one in run.completed if one.startswith(ENCODED)), None)


def run_id_of(run_date: date, *, inputs: Mapping[str, str], model: tuple[str, str], config: str) -> str:
    """16 hex digits of what decides the rows: date, input versions, model version and digest, config and code."""
    parts = (str(run_date), sorted(inputs.items()), model, config, code_digest())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


RECORD_EVERY_S = 30.0  # a kill costs at most the stages of so many seconds; a short run is not slowed by its records


@dataclass
class Run:
    """One row of `runs`: written anew after a stage, unless that was done within `record_every_s`, and by `record`."""

    storage: Storage
    run_id: str
    job: str
    run_date: date
    model_version: str
    model_digest: str
    config_digest: str
    input_versions: Mapping[str, str]
    is_published: bool = False  # readers see its rows: whatever else it does, its status stays published
    status: str = "running"
    counts: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    completed: list[str] = field(default_factory=list)
    record_every_s: float = RECORD_EVERY_S
    recorded_at: float = field(default=float("-inf"), init=False)  # monotonic seconds

    def resume(self) -> None:
        """Takes over what an earlier run of this run_id completed, counted and measured."""
        row = self.storage.read_run(RUNS, self.run_id).first()
        if row is not None and row.status != "expired":
            self.counts, self.seconds, self.completed = dict(row.counts), dict(row.seconds), list(row.completed)

    def stage(self, table: Table, build: Callable[[], DataFrame]) -> DataFrame:
        """The table's rows of this run, read back: built and written, unless an earlier run completed them."""
        if table.name in self.completed:
            say(f"{table.name:<16} {self.counts.get(table.name, 0):>10,} rows   of an earlier try of this run")
            return self.storage.read_run(table, self.run_id)
        with self.timed(table.name):
            self.counts[table.name] = self.storage.write_run(table, build(), self.run_id)
        self.completed.append(table.name)
        if time.monotonic() - self.recorded_at >= self.record_every_s:
            self.record()
        return self.storage.read_run(table, self.run_id)

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Measures a stage, shows how far it is, and prints its rows, seconds and rows per second."""
        started = time.monotonic()
        with progress(self.storage.spark, name):
            yield
        self.seconds[name] = round(time.monotonic() - started, 3)
        rows, seconds = self.counts.get(name, 0), max(self.seconds[name], 1e-3)
        say(f"{name:<16} {rows:>10,} rows {seconds:>8.1f} s {rows / seconds:>12,.0f} rows/s")

    def record(self, status: str | None = None) -> None:
        """Writes the row."""
        self.status = "published" if self.is_published else status or self.status
        values: dict[str, Any] = {column.name: getattr(self, column.name, None) for column in RUNS.columns}
        values |= {"input_versions": dict(self.input_versions), "updated_at": datetime.now(UTC)}
        rows = self.storage.spark.createDataFrame([tuple(values[c.name] for c in RUNS.columns)], RUNS.ddl)
        self.storage.write_run(RUNS, rows, self.run_id)
        self.recorded_at = time.monotonic()


def say(line: str) -> None:
    """A line for whoever watches the job."""
    print(line, flush=True)
