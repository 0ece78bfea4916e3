"""The tables of an evaluated day. A later evaluation, whose log reaches further, adds rows beside the earlier ones."""

from __future__ import annotations

from llmrec_spark.tables import Table, table_columns

_DAY = (
    ("run_date", "date", "the day evaluated"),
    ("run_id", "string", "the run whose lists or matches were judged"),
)
_THROUGH = ("evaluated_through", "timestamp", "UTC: how far the log reached, at most to where every window closes")

EVALUATIONS = Table(
    "evaluations",
    "Every metric of a day, with its interval.",
    table_columns(
        *_DAY,
        (
            "scorer",
            "string",
            "score, match and p_click of the run, a baseline, a difference `a - b`, another run, or shown",
        ),
        ("metric", "string", "ndcg, ctr, ..."),
        ("k", "int", "cut-off; NULL for metrics without"),
        ("slice", "string", "all, or name=value"),
        ("value", "double", "the estimate; NULL where there is nothing to divide by, or it is refused"),
        ("low", "double", "lower end of the 95 % interval; NULL for coverage and for what is expected, not measured"),
        ("high", "double", "upper end"),
        (
            "n",
            "bigint",
            "users; places of coverage, gini, exposure_share; rows of log_loss, auc, ..., effective_sample",
        ),
        _THROUGH,
    ),
    key=("run_date", "run_id", "scorer", "metric", "k", "slice", "evaluated_through"),
    partition=("run_date",),
    statistics=("run_id", "metric"),
)
AD_QUALITY = Table(
    "ad_quality",
    "How good each shown ad was, with the parts of the formula.",
    table_columns(
        *_DAY,
        ("ad_id", "string", "the ad"),
        ("impressions", "bigint", "of the day"),
        ("clicks", "bigint", "of these impressions"),
        ("conversions", "bigint", "of these clicks"),
        ("negatives", "bigint", "hides, reports and other events of negative weight"),
        ("ctr", "double", "shrunk to the mean of the day"),
        ("cvr", "double", "given a click, shrunk likewise"),
        ("negative_rate", "double", "per impression, shrunk likewise"),
        ("text_quality", "double", "share of the text checks that hold, 0 to 1"),
        ("quality", "double", "text_quality x (ctr/mean)^.5 x (cvr/mean)^.5 x (negative_rate/mean)^-.5, 1 is average"),
        _THROUGH,
    ),
    key=("run_date", "run_id", "ad_id", "evaluated_through"),
    partition=("run_date",),
    statistics=("ad_id",),
)
RELIABILITY = Table(
    "reliability",
    "Predicted against observed click rates, in bins of equal size.",
    table_columns(
        *_DAY,
        ("scorer", "string", "what predicts: p_click, or the rate of the ad"),
        ("bin", "int", "from 1, by prediction"),
        ("predicted", "double", "mean of the bin"),
        ("observed", "double", "share clicked"),
        ("low", "double", "lower end of the 95 % interval of observed"),
        ("high", "double", "upper end"),
        ("n", "bigint", "impressions"),
        _THROUGH,
    ),
    key=("run_date", "run_id", "scorer", "bin", "evaluated_through"),
    partition=("run_date",),
)
SCORE_PROFILES = Table(
    "score_profiles",
    "What drift compares: figures of a run's inputs and samples of its scores, kept when `matches` is gone.",
    table_columns(
        *_DAY,
        ("name", "string", "family.what: rows.users, null.cost.click, values.score, ..."),
        ("value", "double", "a count, a share, an error, or the mean of the sample; NULL: nothing to divide by"),
        ("n", "bigint", "rows behind it"),
        (
            "sample",
            "array<double>",
            "values in ascending order, of the rows with the smallest hash; empty for a figure",
        ),
    ),
    key=("run_date", "run_id", "name"),
    partition=("run_date",),
)
ALERTS = Table(
    "alerts",
    "What left its bounds.",
    table_columns(
        *_DAY,
        ("name", "string", "of the figure in score_profiles; ks.what of a sample: its distance to the days before"),
        ("value", "double", "of the day"),
        ("before", "double", "mean of the days before; NULL for a distance"),
        ("bound", "double", "that conf gives, in the unit of value"),
        ("reason", "string", "in words"),
        _THROUGH,
    ),
    key=("run_date", "run_id", "name", "evaluated_through"),
    partition=("run_date",),
)
EVALUATED = {table.name: table for table in (EVALUATIONS, RELIABILITY, AD_QUALITY, SCORE_PROFILES, ALERTS)}
