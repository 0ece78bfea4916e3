"""Every table of ours: its columns, types, key, partition and comments. Readers and writers check against this.

Types are Spark SQL's. All columns are written.
`statistics` are the columns that Delta keeps minima and maxima of: never a user's id, so that an erasure leaves no
trace of it in the transaction log.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """One column: `kind` is a Spark SQL type."""

    name: str
    kind: str
    comment: str
    required: bool = True


@dataclass(frozen=True)
class Table:
    """One Delta table of ours, or an input."""

    name: str
    comment: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    partition: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    checks: tuple[tuple[str, str], ...] = ()  # name and SQL condition of a CHECK constraint

    @property
    def ddl(self) -> str:
        """The columns as a Spark SQL schema string."""
        return ", ".join(f"`{column.name}` {column.kind}" for column in self.columns)


def table_columns(*rows: tuple[str, str, str]) -> tuple[Column, ...]:
    return tuple(Column(*row) for row in rows)


RUN = ("run_id", "string", "digest of date, input versions, model, config and code")
USER = ("user_id", "string", "the user")
AD = ("ad_id", "string", "the ad")
TEXT_LIST = "array<string>"

SEQUENCES = Table(
    "sequences",
    "The last behaviours and skips of each user, oldest first.",
    table_columns(
        RUN,
        USER,
        ("ad_ids", TEXT_LIST, "NULL at a search"),
        ("query_hashes", TEXT_LIST, "NULL but at a search"),
        ("event_types", TEXT_LIST, "as in events"),
        ("event_ts", "array<timestamp>", "UTC"),
        ("positions", "array<int>", "where it was shown, from 1"),
        ("values", "array<double>", "value of the event"),
        ("skipped_ad_ids", TEXT_LIST, "shown and not clicked"),
        ("skipped_ts", "array<timestamp>", "UTC"),
        ("skipped_positions", "array<int>", "from 1"),
    ),
    key=("run_id", "user_id"),
    partition=("run_id",),
)
AD_TEXTS = Table(
    "ad_texts",
    "What an encoder reads of an ad, field by field.",
    table_columns(
        RUN,
        AD,
        ("field", "string", "a name of text.fields in conf"),
        ("text", "string", "normalised"),
        ("text_hash", "string", "SHA-256 of text"),
        ("keywords", TEXT_LIST, "words and phrases, repeated as often as they stand there"),
    ),
    key=("run_id", "ad_id", "field"),
    partition=("run_id",),
    statistics=("ad_id",),
)
AD_STATISTICS = Table(
    "ad_statistics",
    "What happened to an ad in the rate window.",
    table_columns(
        RUN,
        AD,
        ("shown", "bigint", "impressions; without any in the log, active users"),
        ("clicks", "bigint", "of those, clicked; without impressions, users who acted on the ad"),
        ("conversions", "bigint", "conversion events"),
        ("users", "bigint", "distinct users who were shown it or acted on it"),
        ("rate", "double", "(clicks + prior m) / (shown + prior)"),
        ("mean_value", "double", "of a conversion, shrunk to the mean of all ads"),
        ("settled", "bigint", "clicks of which it is known what followed; NULL until a trained model scores"),
        ("converted", "bigint", "of those, clicks that a conversion is credited to"),
    ),
    key=("run_id", "ad_id"),
    partition=("run_id",),
    statistics=("ad_id",),
)
AD_NEIGHBOURS = Table(
    "ad_neighbours",
    "Which ads the same people act on; of a model that was trained to read it.",
    table_columns(
        RUN,
        AD,
        ("neighbours", TEXT_LIST, "ads in the histories of the same users, most similar first"),
        (
            "similarities",
            "array<double>",
            "as ranker.neighbours says: a cosine of users or factors, a weight of EASE",
        ),
    ),
    key=("run_id", "ad_id"),
    partition=("run_id",),
    statistics=("ad_id",),
)
EXCLUSIONS = Table(
    "exclusions",
    "What must not be shown to whom.",
    table_columns(RUN, USER, AD, ("reason", "string", "hidden, converted or resting")),
    key=("run_id", "user_id", "ad_id"),
    partition=("run_id",),
)
TEXT_VECTORS = Table(
    "text_vectors",
    "One unit vector per text and encoder, not centred.",
    table_columns(
        ("encoder_digest", "string", "of weights, tokenizer, pooling, prefix, length and dtype"),
        ("text_hash", "string", "SHA-256 of the normalised text"),
        ("vector", "binary", "float32, little endian"),
        ("tokens", "int", "read by the encoder"),
        ("unknown_share", "float", "of the tokens, unknown to the encoder"),
    ),
    key=("encoder_digest", "text_hash"),
    partition=("encoder_digest",),
    statistics=("text_hash",),
)
TASTES = Table(
    "tastes",
    "What a trained model makes of each user with a history: a level, and a weight per ad shown before.",
    table_columns(
        RUN,
        USER,
        ("level", "double", "how readily the user clicks, in log-odds"),
        ("shown_ads", TEXT_LIST, "clicked and skipped"),
        ("shown_types", TEXT_LIST, "as in events; skip where it was shown and not clicked"),
        ("age_days", "array<double>", "of each when the day began"),
        ("weights", "array<double>", "signed: taste for an ad is the sum of each times its kernels with that ad"),
        (
            "residuals",
            "array<double>",
            "1 or 0, clicked or not, less what was expected of the ad at its place",
        ),
    ),
    key=("run_id", "user_id"),
    partition=("run_id",),
)
BACKGROUNDS = Table(
    "backgrounds",
    "Mean match of each live ad over the sample of users.",
    table_columns(
        RUN,
        AD,
        ("background", "double", "mean match; NULL for an ad without text"),
        ("sigma", "double", "standard deviation of match - background over sample x live ads"),
    ),
    key=("run_id", "ad_id"),
    partition=("run_id",),
    statistics=("ad_id",),
)
MATCHES = Table(
    "matches",
    "The best ads of each user, or every given pair.",
    table_columns(
        RUN,
        USER,
        AD,
        ("match", "double", "attention match; NULL without usable history or text"),
        ("background", "double", "of the ad"),
        ("rate", "double", "of the ad"),
        ("lift", "double", "(match - background) / sigma; 0 where match is NULL"),
        ("log_odds", "double", "logit(rate) + beta lift, or of a trained model"),
        ("score", "double", "log_odds, or match in the uniform form, or expected_value where ranking.order_by says so"),
    ),
    key=("run_id", "user_id", "ad_id"),
    partition=("run_id",),
)
_LIST = table_columns(
    ("rank", "int", "from 1"),
    AD,
    ("score", "double", "what the list is ordered by"),
    ("log_odds", "double", "logit(rate) + beta lift, or of a trained model before calibration"),
    ("match", "double", "attention match; NULL for cold_start"),
    ("rate", "double", "shrunk click rate of the ad"),
    ("lift", "double", "match above the ad's background, in standard deviations"),
    ("p_click", "double", "at the first position; without impressions, of an act to be on the ad; NULL until trained"),
    ("p_conversion", "double", "given a click; NULL until a trained model, which saw conversions, scores"),
    ("expected_value", "double", "of an impression, as value.pricing in conf; NULL without p_click or a price"),
    ("propensity", "double", "probability with which this ad was put here; NULL until lists explore"),
    ("source", "string", "personal or cold_start"),
    (
        "reasons",
        "array<struct<ad_id: string, event_type: string, field: string, contribution: double>>",
        "signed parts of log_odds; the last one, `other`, is the rest",
    ),
    ("model_version", "string", "version in the registry, or digest of a folder"),
)
RANKINGS = Table(
    "rankings",
    "The final lists of a run.",
    table_columns(RUN, USER) + _LIST,
    key=("run_id", "user_id", "rank"),
    partition=("run_id",),
)
RECOMMENDATIONS = Table(
    "recommendations",
    "What to show to whom on a day: the published result.",
    table_columns(
        ("run_date", "date", "the day to show it"),
        ("user_bucket", "string", "first two hex digits of md5(user_id), for pruning"),
        USER,
    )
    + _LIST
    + table_columns(RUN),
    key=("run_date", "user_id", "rank"),
    partition=("run_date",),
    statistics=("user_bucket", "rank"),
    checks=(("rank_from_one", "rank >= 1"), ("user_known", "user_id IS NOT NULL"), ("ad_known", "ad_id IS NOT NULL")),
)
QUARANTINE = Table(
    "quarantine",
    "Rows refused, at most so many per reason and run.",
    table_columns(
        RUN,
        ("table", "string", "the input"),
        ("key", "string", "of the refused row"),
        ("reason", "string", "why"),
        ("user_id", "string", "of the refused row, for erasure"),
        ("row", "string", "the row as JSON, without the query"),
    ),
    key=("run_id", "table", "key", "reason"),
    partition=("run_id",),
    statistics=("table", "reason"),
)
RUNS = Table(
    "runs",
    "One row per run.",
    table_columns(
        RUN,
        ("job", "string", "what ran"),
        ("run_date", "date", "the day scored"),
        ("status", "string", "running, published, shadow, refused, failed or expired"),
        ("model_version", "string", "version in the registry, or digest of a folder"),
        ("model_digest", "string", "SHA-256 of the model's manifest"),
        ("config_digest", "string", "SHA-256 of what decides the rows"),
        ("input_versions", "map<string,string>", "Delta table id @ version of each input"),
        ("counts", "map<string,bigint>", "what was read, refused, left out and written"),
        ("seconds", "map<string,double>", "per stage"),
        ("completed", TEXT_LIST, "tables that are whole and may be used again, bounds audited, encoder read"),
        ("updated_at", "timestamp", "UTC"),
    ),
    key=("run_id",),
    partition=("run_id",),  # so that a row is replaced without reading the others
    statistics=("run_date", "status"),
)
OWN = {
    table.name: table
    for table in (
        SEQUENCES,
        AD_TEXTS,
        AD_STATISTICS,
        AD_NEIGHBOURS,
        EXCLUSIONS,
        TEXT_VECTORS,
        TASTES,
        BACKGROUNDS,
        MATCHES,
        RANKINGS,
        RECOMMENDATIONS,
        QUARANTINE,
        RUNS,
    )
}
