"""The history of each user: the last behaviours and skips, oldest first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from math import log

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import SECONDS_PER_DAY, midnight
from llmrec_spark.texts import field_keywords, normalise, text_hash

SKIP = "skip"  # in shown_types, beside the log's own types


def queries(events: DataFrame, *, searches: Sequence[str]) -> DataFrame:
    """The distinct queries of the searches: query (as logged), text (normalised), query_hash, keywords.

    A query whose text is empty once normalised has no row. Held in memory and in no table of ours.
    """

    def hash_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            batch["text"] = batch["query"].map(normalise)
            batch = batch[batch["text"] != ""]
            batch["query_hash"] = batch["text"].map(text_hash)
            batch["keywords"] = batch["text"].map(lambda text: field_keywords("title", [text]))
            yield batch

    searched = events.where(F.col("event_type").isin(*searches) & F.col("query").isNotNull())
    schema = "query string, text string, query_hash string, keywords array<string>"
    return searched.select("query").distinct().mapInPandas(hash_partition, schema)


def behaviours(
    events: DataFrame, ads: DataFrame, queries: DataFrame, *, weights: Mapping[str, float], searches: Sequence[str]
) -> DataFrame:
    """The events that can be part of a history: EVENTS' columns, query_hash, is_known.

    Types of weight > 0. `is_known` is false where the ad is not in `ads` (one row an ad) or a search has no query.
    A search carries its query and no ad; what else has a query keeps its ad.
    """
    positive = [kind for kind, weight in weights.items() if weight > 0]
    is_search = F.col("event_type").isin(*searches)
    known = ads.select("ad_id", F.lit(True).alias("has_ad"))
    return (
        events.where(F.col("event_type").isin(*positive))
        .withColumn("query", F.when(is_search, F.col("query")))
        .withColumn("ad_id", F.when(~is_search, F.col("ad_id")))
        .join(queries.select("query", "query_hash"), on="query", how="left")
        .join(known, on="ad_id", how="left")
        .withColumn("is_known", F.col("has_ad").isNotNull() | F.col("query_hash").isNotNull())
        .drop("has_ad")
    )


def behaviour_sequences(
    behaviours: DataFrame,
    impressions: DataFrame,
    *,
    max_behaviours: int,
    max_skips: int,
    by: Sequence[str] = ("user_id",),
) -> DataFrame:
    """One row per user with a known behaviour or a skip: the columns of SEQUENCES but run_id, arrays oldest first.

    Reads    `behaviours` as above, `impressions` as clicked_impressions gives them, both with the columns of `by`
    Returns  the columns of `by`, which tell one history from another, and the arrays

    Ordered by time and, at one instant, by event_id. Empty arrays where a user has one kind only.
    """
    behaved = ["event_ts", "event_id", "ad_id", "query_hash", "event_type", "position", "value"]
    skipped = ["event_ts", "event_id", "ad_id", "position"]
    behaviour_rows = behaviours.where("is_known").select(*by, F.struct(*behaved).alias("behaviour"))
    skip_rows = impressions.where(~F.col("clicked")).select(*by, F.struct(*skipped).alias("skip"))
    kept_behaviours = (
        behaviour_rows.groupBy(*by)
        .agg(F.max_by("behaviour", "behaviour", max_behaviours).alias("h"))
        .select(*by, F.reverse("h").alias("h"))
    )
    kept_skips = (
        skip_rows.groupBy(*by)
        .agg(F.max_by("skip", "skip", max(max_skips, 1)).alias("s"))
        .select(
            *by,
            F.reverse(F.slice("s", 1, max_skips) if max_skips else F.filter("s", lambda _: F.lit(False))).alias("s"),
        )
    )
    return kept_behaviours.join(kept_skips, on=list(by), how="full").select(
        *by,
        _part("h", "ad_id", "string").alias("ad_ids"),
        _part("h", "query_hash", "string").alias("query_hashes"),
        _part("h", "event_type", "string").alias("event_types"),
        _part("h", "event_ts", "timestamp").alias("event_ts"),
        _part("h", "position", "int").alias("positions"),
        _part("h", "value", "double").alias("values"),
        _part("s", "ad_id", "string").alias("skipped_ad_ids"),
        _part("s", "event_ts", "timestamp").alias("skipped_ts"),
        _part("s", "position", "int").alias("skipped_positions"),
    )


def _part(history: str, field: str, kind: str) -> Column:
    return F.coalesce(F.col(f"{history}.{field}"), F.array().cast(f"array<{kind}>"))


def histories(
    sequences: DataFrame, *, as_of: date, weights: Mapping[str, float], half_life_days: float | None
) -> DataFrame:
    """What the match reads of a history: user_id, ad_ids, query_hashes, event_types, log_priors (one length).

    log_prior = ln(weight of the type) - ln 2 x age / half-life, age in days at `as_of` 00:00 UTC. Users without a
    behaviour have no row.
    """
    parts = [F.lit(part) for kind, weight in weights.items() if weight > 0 for part in (kind, log(weight))]
    log_weights = F.create_map(*parts) if parts else F.lit(None).cast("map<string, double>")
    decay = 0.0 if half_life_days is None else log(2.0) / half_life_days / SECONDS_PER_DAY  # per second
    midnight_seconds = F.unix_micros(midnight(as_of)) / F.lit(1e6)

    def log_prior(kind: Column, happened: Column) -> Column:
        return log_weights[kind] - (midnight_seconds - F.unix_micros(happened) / F.lit(1e6)) * F.lit(decay)

    return sequences.where(F.size("ad_ids") > 0).select(
        "user_id",
        "ad_ids",
        "query_hashes",
        "event_types",
        F.zip_with("event_types", "event_ts", log_prior).alias("log_priors"),
    )


def shown_before(sequences: DataFrame, *, clicks: Sequence[str], by: Sequence[str] = ("user_id",)) -> DataFrame:
    """What a taste is learned from: the columns of `by`, and of each ad clicked or skipped, in arrays of one length,
    shown_ads, shown_types (the click's, or SKIP), shown_ts, positions (NULL where unknown).

    Reads    SEQUENCES' arrays; `clicks` are the types that answer an impression
    Users who neither clicked nor skipped anything have no row.
    """
    behaved = F.arrays_zip(
        F.col("ad_ids").alias("ad_id"),
        F.col("event_types").alias("kind"),
        F.col("event_ts").alias("ts"),
        F.col("positions").alias("position"),
    )
    clicked = F.filter(behaved, lambda one: one["kind"].isin(*clicks) & one["ad_id"].isNotNull())
    skipped = F.transform(
        F.arrays_zip(
            F.col("skipped_ad_ids").alias("ad_id"),
            F.col("skipped_ts").alias("ts"),
            F.col("skipped_positions").alias("position"),
        ),
        lambda one: F.struct(
            one["ad_id"].alias("ad_id"),
            F.lit(SKIP).alias("kind"),
            one["ts"].alias("ts"),
            one["position"].alias("position"),
        ),
    )
    return (
        sequences.select(*by, F.concat(clicked, skipped).alias("shown"))
        .where(F.size("shown") > 0)
        .select(
            *by,
            F.col("shown.ad_id").alias("shown_ads"),
            F.col("shown.kind").alias("shown_types"),
            F.col("shown.ts").alias("shown_ts"),
            F.col("shown.position").alias("positions"),
        )
    )


def recent_queries(sequences: DataFrame, *, max_queries: int) -> DataFrame:
    """The distinct query_hash of all histories, at most `max_queries`, most recently searched first."""
    return (
        sequences.select(F.explode(F.arrays_zip("query_hashes", "event_ts")).alias("e"))
        .where(F.col("e.query_hashes").isNotNull())
        .groupBy(F.col("e.query_hashes").alias("query_hash"))
        .agg(F.max("e.event_ts").alias("latest"))
        .orderBy(F.desc("latest"), "query_hash")
        .limit(max_queries)
        .select("query_hash")
    )
