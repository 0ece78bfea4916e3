"""The company's tables: columns that must be there, and columns that may be absent."""

from __future__ import annotations

from llmrec_spark.tables import AD, TEXT_LIST, USER, Column, Table, table_columns


def _optional(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row, required=False) for row in rows)


EVENTS = Table(
    "events",
    "What users did.",
    table_columns(
        ("event_id", "string", "unique"),
        USER,
        ("ad_id", "string", "NULL for a search"),
        ("event_type", "string", "a key of events.weights in conf"),
        ("event_ts", "timestamp", "UTC"),
    )
    + _optional(
        ("value", "double", "of a conversion, in the currency of the bids"),
        ("cost", "double", "what the advertiser paid"),
        ("request_id", "string", "the list an impression or click belongs to"),
        ("position", "int", "in the list, from 1"),
        ("propensity", "double", "probability with which the ad was shown there"),
        ("query", "string", "what was searched for"),
        ("run_id", "string", "of the run whose list was shown"),
    ),
    key=("event_id",),
)
ADS = Table(
    "ads",
    "Which ads can run.",
    table_columns(("ad_id", "string", "unique"), ("title", "string", "text"))
    + _optional(
        ("description", "string", "text"),
        ("tags", TEXT_LIST, "phrases"),
        ("category", TEXT_LIST, "one phrase or several"),
        ("people", TEXT_LIST, "names"),
        ("advertiser_id", "string", "who pays"),
        ("bid", "double", "per click, in one currency"),
        ("daily_budget", "double", "same currency"),
        ("starts_at", "timestamp", "UTC; NULL: always"),
        ("ends_at", "timestamp", "UTC; NULL: never"),
    ),
    key=("ad_id",),
)
USERS = Table(
    "users",
    "Who gets a list.",
    table_columns(USER) + _optional(("consent", "boolean", "false or NULL: events are used for hiding only")),
    key=("user_id",),
)
CANDIDATES = Table(
    "candidates",
    "Which ads may be shown to whom.",
    table_columns(USER, AD) + _optional(("date", "date", "the day it holds for; NULL: every day")),
    key=("user_id", "ad_id"),
)
INPUTS = {table.name: table for table in (EVENTS, ADS, USERS, CANDIDATES)}
