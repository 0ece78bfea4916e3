"""Small tables by hand: what a row does not say is NULL."""

from __future__ import annotations

from datetime import date
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from llmrec_spark.input_tables import ADS, CANDIDATES, EVENTS, USERS
from llmrec_spark.tables import Table
from tests.conftest import at

DAY = date(2026, 3, 1)  # the day that lists are made for
MIDNIGHT = at("2026-03-01 00:00")  # its beginning
NOON = at("2026-02-28 12:00")  # the day before
TYPES = ("impression", "view", "click", "cart", "purchase", "search", "hide")
SEARCHES = ("search",)


def rows_of(spark: SparkSession, table: Table, *rows: dict[str, Any], leave_out: tuple[str, ...] = ()) -> DataFrame:
    """A DataFrame of a table's columns and types."""
    columns = [column for column in table.columns if column.name not in leave_out]
    names = [column.name for column in columns]
    for row in rows:
        if unknown := set(row) - set(names):
            raise KeyError(f"{table.name} has no {sorted(unknown)}")
    ddl = ", ".join(f"`{column.name}` {column.kind}" for column in columns)
    return spark.createDataFrame([tuple(row.get(name) for name in names) for row in rows], ddl)


def event(event_id: str | None, event_type: str | None = "click", event_ts: Any = NOON, **more: Any) -> dict[str, Any]:
    """A row of events, by user u and of ad a unless said otherwise."""
    return {"event_id": event_id, "user_id": "u", "ad_id": "a", "event_type": event_type, "event_ts": event_ts} | more


def events_of(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Events as storage gives them."""
    return rows_of(spark, EVENTS, *rows)


def ads_of(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Ads as storage gives them."""
    return rows_of(spark, ADS, *rows)


def users_of(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Users as storage gives them."""
    return rows_of(spark, USERS, *rows)


def candidates_of(spark: SparkSession, *rows: dict[str, Any]) -> DataFrame:
    """Candidates as storage gives them."""
    return rows_of(spark, CANDIDATES, *rows)


def refused_by(checked: DataFrame, key: str) -> dict[Any, str | None]:
    """The reason of each row (NULL: accepted) by a column that is unique."""
    return {row[key]: row.refused for row in checked.select(key, "refused").collect()}
