"""An input table under our column names and types."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import InputConfig
from llmrec_spark.errors import DataError
from llmrec_spark.input_tables import INPUTS


def mapped_input(
    name: str, rows: DataFrame, place: str, config: InputConfig, separators: Mapping[Any, str]
) -> DataFrame:
    """An input under our column names and types, columns that no one asked for kept under theirs.

    Absent optional columns are NULL. Ids are cast to strings; a time without a zone is UTC; a phrase list given as text
    is split at its separator. `place` says in messages where the rows are. Raises DataError for a missing column, a
    wrong type, or a map that names a column the table lacks.
    """
    table = INPUTS[name]
    theirs = dict(rows.dtypes)
    spelled = {name.lower(): name for name in theirs}  # Spark does not tell Title from title
    where = f"inputs.{name} ({place})"
    unknown = sorted(source for source in config.columns.values() if source.lower() not in spelled)
    if unknown:
        raise DataError(f"{where}: the column map names {unknown}; the table has {sorted(theirs)}.")
    columns = []
    for column in table.columns:
        wanted = config.columns.get(column.name, column.name)
        source = spelled.get(wanted.lower())
        if source is None:
            if column.required:
                raise DataError(
                    f"{where}: has no column {wanted!r} ({column.comment}); it has {sorted(theirs)}. "
                    f"Map it: inputs.{name}.columns.{column.name}: <their name>."
                )
            columns.append(F.lit(None).cast(column.kind).alias(column.name))
            continue
        converted = _converted(source, theirs[source], column.kind, separators.get(column.name))
        if converted is None:
            raise DataError(
                f"{where}: column {source!r} is {theirs[source]}, expected {column.kind} ({column.comment})."
            )
        columns.append(converted.alias(column.name))
    ours = {column.name for column in table.columns}
    mapped = {source.lower() for source in config.columns.values()}
    extra = [F.col(f"`{source}`") for lower, source in spelled.items() if lower not in mapped | ours]
    return rows.select(*columns, *extra)


WHOLE = re.compile(r"(tinyint|smallint|int|bigint|decimal\(\d+,0\))$")  # an id as a float would be 1.0E10
NUMBERS = re.compile(r"(tinyint|smallint|int|bigint|float|double|decimal.*)$")


def _converted(source: str, found: str, expected: str, separator: str | None) -> Column | None:
    """The column as the expected type, or None where that makes no sense."""
    value = F.col(f"`{source}`")
    if found == expected and expected != "double":
        return value
    if expected == "string" and WHOLE.match(found):
        return value.cast("string")
    if expected == "int" and NUMBERS.match(found):
        return value.try_cast("int")  # NaN, as pandas writes for unknown, is NULL
    if expected == "double" and NUMBERS.match(found):
        return F.nanvl(value.cast("double"), F.lit(None).cast("double"))
    if expected == "timestamp" and found == "timestamp_ntz":  # as text, which knows no session's zone
        return F.concat(value.cast("string"), F.lit("Z")).cast("timestamp")
    if expected == "array<string>" and found == "string":
        one = F.array(value) if separator is None else F.split(value, re.escape(separator))
        return F.when(value.isNotNull(), one)
    return None
