"""The only door to Delta: inputs pinned to a version, our tables written run by run, one commit that publishes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from delta.exceptions import (
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)
from delta.tables import DeltaTable
from py4j.protocol import Py4JJavaError
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Observation, SparkSession
from pyspark.sql import functions as F

from llmrec_spark.config import InputConfig, TablesConfig
from llmrec_spark.errors import ConfigError, DataError, TryAgainError
from llmrec_spark.tables import RECOMMENDATIONS, Table

CONFLICTS = (  # what Delta raises when another writer was there first; none is a subclass of another
    ConcurrentAppendException,
    ConcurrentDeleteDeleteException,
    ConcurrentDeleteReadException,
    ConcurrentTransactionException,
    ConcurrentWriteException,
    DeltaConcurrentModificationException,
    MetadataChangedException,
    ProtocolChangedException,
)

Value = date | datetime | str  # of a column that says which rows are replaced


@dataclass(frozen=True)
class PinnedTable:
    """An input as it was at one version; `version` is Delta's table id @ version, so a table made anew differs."""

    rows: DataFrame
    where: str
    version: str


class Storage:
    """Our tables under one root or catalog.

    A run's rows of a table are replaced by one commit, so a table holds a run wholly or not at all.
    """

    def __init__(self, spark: SparkSession, tables: TablesConfig) -> None:
        self.spark = spark
        self._tables = tables
        self._made: set[str] = set()

    def where(self, table: Table) -> str:
        """The table as SQL names it."""
        if self._tables.catalog is not None:
            return f"{self._tables.catalog}.{table.name}"
        return f"delta.`{self._path(table)}`"

    def _path(self, table: Table) -> str:
        return f"{absolute(str(self._tables.root)).rstrip('/')}/{table.name}"

    def pin(self, name: str, config: InputConfig) -> PinnedTable:
        """The newest version of an input. Raises DataError when there is no such Delta table."""
        where = _input_name(config)
        try:
            detail = self.spark.sql(f"DESCRIBE DETAIL {where}").first()
            [newest] = self.spark.sql(f"DESCRIBE HISTORY {where} LIMIT 1").select("version").collect()
            rows = self.spark.sql(f"SELECT * FROM {where} VERSION AS OF {newest.version}")
        except AnalysisException as error:
            raise DataError(
                f"inputs.{name}: no Delta table at {config.path or config.name}. Write it there, or change "
                f"inputs.{name} in the configuration. ({_first_line(error)})"
            ) from error
        except Py4JJavaError as error:  # a file system that refuses: credentials, a host, a scheme without a JAR
            raise DataError(
                f"inputs.{name}: {config.path or config.name} cannot be read ({error.java_exception}). Check the "
                "credentials and JARs that Spark has for it."
            ) from error
        return PinnedTable(rows, str(config.path or config.name), f"{detail.id}@{newest.version}")  # type: ignore[union-attr]

    def exists(self, table: Table) -> bool:
        """Whether the table has been made."""
        if table.name not in self._made:
            if self._tables.catalog is not None:
                found = bool(self.spark.catalog.tableExists(self.where(table)))
            else:
                found = DeltaTable.isDeltaTable(self.spark, self._path(table))
            if not found:
                return False
            self._made.add(table.name)
        return True

    def create(self, table: Table) -> None:
        """Makes the table where it is not, with comments, checks and statistics. Raises ConfigError if it cannot.

        One that another version wrote gets the columns it lacks, NULL in the rows that are there.
        """
        if self.exists(table):
            there = set(self.spark.table(self.where(table)).columns)
            lacks = [one for one in table.columns if one.name not in there]
            if lacks:
                added = ", ".join(f"{one.name} {one.kind} COMMENT '{_quoted(one.comment)}'" for one in lacks)
                self.spark.sql(f"ALTER TABLE {self.where(table)} ADD COLUMNS ({added})")
            return
        builder = DeltaTable.createIfNotExists(self.spark).comment(table.comment)
        if self._tables.catalog is not None:
            builder = builder.tableName(self.where(table))
        else:
            builder = builder.location(self._path(table))
        for column in table.columns:
            builder = builder.addColumn(column.name, column.kind, comment=column.comment)
        statistics = ",".join(table.statistics)
        builder = (
            builder.property("delta.dataSkippingStatsColumns", statistics)
            if statistics
            else builder.property("delta.dataSkippingNumIndexedCols", "0")
        )
        for name, condition in table.checks:
            builder = builder.property(f"delta.constraints.{name}", condition)
        if table.partition:
            builder = builder.partitionedBy(*table.partition)
        try:
            builder.execute()
        except Exception as error:  # Java errors of a file system come in many classes
            if self.exists(table):  # another job was faster
                return
            raise ConfigError(
                f"{self.where(table)}: cannot be created ({_first_line(error)}). "
                "Give tables.root a folder or URI that this user may write to."
            ) from error

    def read(self, table: Table) -> DataFrame:
        """All rows of one of our tables; no rows where it has not been made.

        A column that an earlier version did not write is NULL. Raises DataError where one of the key is not there.
        """
        if not self.exists(table):
            return self.spark.createDataFrame([], table.ddl)
        rows = self.spark.table(self.where(table))
        missing = {column.name: column.kind for column in table.columns if column.name not in rows.columns}
        if set(missing) & set(table.key):
            raise DataError(
                f"{self.where(table)}: lacks the columns {sorted(missing)}. It is another table: move it away."
            )
        return rows.withColumns({name: F.lit(None).cast(kind) for name, kind in missing.items()})

    def read_run(self, table: Table, run_id: str) -> DataFrame:
        """The rows that a run wrote."""
        return self.read(table).where(F.col("run_id") == run_id)

    def write_run(self, table: Table, rows: DataFrame, run_id: str) -> int:
        """Replaces a run's rows of the table by `rows` (without run_id) in one commit; returns how many."""
        rows = _checked(table, rows.withColumn("run_id", F.lit(run_id)))
        return self._commit(table, rows, f"run_id = '{run_id}'", {"run_id": run_id})

    def write_where(self, table: Table, rows: DataFrame, where: Mapping[str, Value | Sequence[date]]) -> int:
        """Replaces the rows whose columns equal `where` by `rows`, which all do, in one commit; returns how many.

        A column of which `where` has several dates equals one of them.
        """
        several = {name: [value] if isinstance(value, Value) else value for name, value in where.items()}
        condition = " AND ".join(f"{name} IN ({', '.join(map(_literal, values))})" for name, values in several.items())
        lineage = {name: ", ".join(map(str, values)) for name, values in several.items()}
        return self._commit(table, _checked(table, rows), condition, lineage)

    def publish(self, rows: DataFrame, run_date: date, lineage: Mapping[str, Any]) -> int:
        """Replaces a day of `recommendations` in one commit, the only one that readers see; returns how many rows."""
        return self._commit(RECOMMENDATIONS, _checked(RECOMMENDATIONS, rows), f"run_date = '{run_date}'", lineage)

    def add_missing(self, table: Table, rows: DataFrame) -> int:
        """Adds the rows whose key the table lacks, safely beside other writers; returns how many."""
        self.create(table)
        same_key = " AND ".join(f"old.{key} = new.{key}" for key in table.key)
        merge = DeltaTable.forName if self._tables.catalog is not None else DeltaTable.forPath
        target = merge(self.spark, self.where(table).removeprefix("delta.`").removesuffix("`"))
        checked = _checked(table, rows)
        merged = target.alias("old").merge(checked.alias("new"), same_key).whenNotMatchedInsertAll()
        try:
            [counts] = merged.execute().collect()  # nothing new makes no commit to ask
        except CONFLICTS:  # another day added some of the same texts: what it added is not missing any more
            [counts] = _committed(merged.execute).collect()
        return int(counts.num_inserted_rows)

    def forget_runs(self, table: Table, run_ids: list[str]) -> None:
        """Deletes the rows of these runs."""
        if self.exists(table):
            runs = ", ".join(f"'{run}'" for run in run_ids)
            _committed(lambda: self.spark.sql(f"DELETE FROM {self.where(table)} WHERE run_id IN ({runs})"))

    def forget_days(self, table: Table, *, before: date) -> None:
        """Deletes the rows whose run_date is before a day."""
        if self.exists(table):
            _committed(lambda: self.spark.sql(f"DELETE FROM {self.where(table)} WHERE run_date < DATE '{before}'"))

    def mark_expired(self, table: Table, run_ids: list[str]) -> None:
        """Says in `runs` that the tables of these runs are gone, so that no later run takes them for complete."""
        runs = ", ".join(f"'{run}'" for run in run_ids)
        update = f"UPDATE {self.where(table)} SET status = 'expired', completed = array() WHERE run_id IN ({runs})"
        _committed(lambda: self.spark.sql(update))

    def _commit(self, table: Table, rows: DataFrame, condition: str, lineage: Mapping[str, Any]) -> int:
        self.create(table)
        written = Observation()
        metadata = json.dumps(dict(lineage), sort_keys=True)
        counted = rows.observe(written, F.count("*").alias("rows"))
        writer = counted.writeTo(self.where(table)).option("userMetadata", metadata)
        _committed(lambda: writer.overwrite(F.expr(condition)))
        return int(written.get["rows"])


def absolute(path: str) -> str:
    """A URI as it is, a folder as an absolute path: Spark SQL knows no relative ones."""
    return path if "://" in path else str(Path(path).resolve())


def _input_name(config: InputConfig) -> str:
    return config.name if config.name is not None else f"delta.`{absolute(str(config.path))}`"


def _checked(table: Table, rows: DataFrame) -> DataFrame:
    found = dict(rows.dtypes)
    expected = {column.name: column.kind.replace(": ", ":").replace(", ", ",") for column in table.columns}
    if found != expected:
        wrong = {name: (found.get(name), expected.get(name)) for name in sorted(found.keys() | expected.keys())}
        wrong = {name: pair for name, pair in wrong.items() if pair[0] != pair[1]}
        raise DataError(f"{table.name}: columns (found, expected) do not fit: {wrong}")
    return rows.select(*expected)


def _committed(commit: Callable[[], Any]) -> Any:
    try:
        return commit()
    except CONFLICTS as error:
        raise TryAgainError(
            f"another writer changed the table at the same time ({_first_line(error)}). Run again."
        ) from error


def _literal(value: Value) -> str:
    if isinstance(value, datetime):
        return f"TIMESTAMP '{value.astimezone(UTC).isoformat(sep=' ')}'"
    return f"DATE '{value}'" if isinstance(value, date) else f"'{value}'"


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _first_line(error: BaseException) -> str:
    message = str(error).strip()  # getMessage() of a captured error fails on Delta's error classes
    return message.splitlines()[0][:300] if message else type(error).__name__


def write_input(rows: DataFrame, config: InputConfig | None, *, append: bool = False) -> int:
    """Writes an input table where the configuration has it, for loaders of sample data; returns how many rows."""
    if config is None:
        raise ConfigError(
            "inputs: the configuration names no place for a table of this data. Take the one it came with."
        )
    writer = rows.write.format("delta").mode("append" if append else "overwrite").option("overwriteSchema", not append)
    writer = writer.option("mergeSchema", append)
    if config.name is not None:
        writer.saveAsTable(config.name)
    else:
        writer.save(absolute(str(config.path)))
    [newest] = (
        rows.sparkSession.sql(f"DESCRIBE HISTORY {_input_name(config)} LIMIT 1").select("operationMetrics").collect()
    )
    return int(newest.operationMetrics["numOutputRows"])
