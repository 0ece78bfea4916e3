"""The tables that a model learns from: a training set is a cut of the log, filled some days at a time."""

from __future__ import annotations

from llmrec_spark.tables import AD, SEQUENCES, USER, Table, table_columns

_SET = (
    ("training_set", "string", "digest of the date trained at, how far labels reach, input versions, config and code"),
    ("run_date", "date", "UTC day of the impression"),
)
_HISTORY = ("history_id", "string", "with training_set and user_id: the key of what was known of the user")

TRAINING_HISTORIES = Table(
    "training_histories",
    "What was known of a user when a day began: as `sequences`. A user of whom nothing was known has no row.",
    table_columns(*_SET, USER, _HISTORY)
    + tuple(column for column in SEQUENCES.columns if column.name not in ("run_id", "user_id")),
    key=("training_set", "run_date", "user_id", "history_id"),
    partition=("training_set", "run_date"),
)
TRAINING_EXAMPLES = Table(
    "training_examples",
    "One row per shown ad: what came of it, and what was known when its day began. A list's rows lie together.",
    table_columns(
        *_SET,
        ("example_id", "string", "event_id of the impression; in a log without, of the first act, or of a drawn ad"),
        USER,
        ("request_id", "string", "of the impression; NULL where the log has none"),
        ("list_id", "string", "with user_id: rows that stood beside each other; the request, or else the day"),
        AD,
        ("position", "int", "in the list, from 1"),
        ("propensity", "double", "probability with which the ad was shown there"),
        ("clicked", "boolean", "within training.click_hours; in a log without impressions: acted on that day"),
        ("converted", "boolean", "after a click, within training.conversion_days; NULL while these are not over"),
        ("split", "string", "train, validation or test"),
        ("fold", "int", "of the user: int(md5(user_id), 16) // 5 % 5"),
        ("inner_fold", "int", "of the user: int(md5(user_id), 16) // 25 % 5"),
        _HISTORY,
        ("ad_shown", "bigint", "of the ad, before; as in ad_statistics"),
        ("ad_clicks", "bigint", "of these, clicked by then"),
        ("ad_conversions", "bigint", "of the ad, before"),
        ("mean_rate", "double", "clicks / shown of all ads, before, held in [1e-4, .5]"),
        ("user_shown", "bigint", "ads shown to the user, before; NULL in a log without impressions"),
        ("user_clicks", "bigint", "of these, clicked by then; in a log without impressions: ads acted on"),
        ("log_sampling_rate", "double", "ln of the probability that one draw gives this ad; NULL: it was shown"),
    ),
    key=("training_set", "run_date", "example_id"),
    partition=("training_set", "run_date"),
    statistics=("split", "ad_id"),
)
TRAINING = {table.name: table for table in (TRAINING_HISTORIES, TRAINING_EXAMPLES)}
