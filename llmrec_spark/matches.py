"""How well each ad suits each user: every given pair, or the best ads of each user."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import pandas as pd
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.sequences import SKIP
from llmrec_spark.session import shared_folder, task_device

USERS_AT_ONCE = 512  # rows of the score matrix in memory
RERANKED_AT_ONCE = 64  # users
FIGURES = ("match", "background", "rate", "lift", "log_odds", "score")
SCHEMA = ", ".join(["user_id string, ad_id string", *(f"{name} double" for name in FIGURES)])
TEXTS = "texts"  # of a user's history, where the model reads it as text: history_texts.history_vectors
TASTE = ("level", "shown_ads", "clicked", "age_days", "weights", "residuals")  # of a user, NULL without a trained model


def significant(value: Column) -> Column:
    """A double rounded to 6 significant digits, so that the last bits of a sum cannot change an order."""
    digits = F.lit(5.0) - F.floor(F.log10(F.abs(value)))  # after the point
    up = F.pow(F.lit(10.0), F.greatest(digits, F.lit(0.0)))  # whole: 1e-5 has no exact double
    down = F.pow(F.lit(10.0), F.greatest(-digits, F.lit(0.0)))
    return F.when(value != 0, F.rint(value * up / down) / up * down).otherwise(value)  # 0 and NULL as they are


def order_of(score: Column, log_odds: Column, ad_id: Column) -> Column:
    """Sorts ascending from the best: score, then log_odds, both to 6 significant digits, then ad_id."""
    return F.struct((-significant(score)).alias("s"), (-significant(log_odds)).alias("l"), ad_id.alias("a"))


def match_requests(
    users: DataFrame,
    histories: DataFrame,
    exclusions: DataFrame,
    candidates: DataFrame | None,
    tastes: DataFrame | None = None,
) -> DataFrame:
    """One row per user to score: user_id, ad_ids, query_hashes, log_priors, TASTE, TEXTS if `tastes` has them,
    excluded, candidates (NULL: every live ad).

    users, histories, tastes: one row a user. With `candidates` (user_id, ad_id), users who were given none have no
    row, and nothing is excluded: every given pair is scored.
    """
    base = with_tastes(users.join(histories.drop("event_types"), on="user_id", how="left"), tastes)
    if candidates is None:
        excluded = exclusions.groupBy("user_id").agg(F.collect_list("ad_id").alias("excluded"))
        none = F.lit(None).cast("array<string>")
        return base.join(excluded, on="user_id", how="left").withColumn("candidates", none)
    given = candidates.groupBy("user_id").agg(F.array_sort(F.collect_set("ad_id")).alias("candidates"))
    return base.join(given, on="user_id", how="inner").withColumn("excluded", F.lit(None).cast("array<string>"))


def with_tastes(users: DataFrame, tastes: DataFrame | None) -> DataFrame:
    """`users` with TASTE, NULL where a user has none, shown_types and, if `tastes` has them, TEXTS."""
    if tastes is not None:
        clicked = F.transform("shown_types", lambda kind: kind != SKIP)
        texts = [name for name in tastes.columns if name == TEXTS]
        known = tastes.withColumn("clicked", clicked).select("user_id", *TASTE, "shown_types", *texts)
        return users.join(known, on="user_id", how="left")
    numbers = ["array<double>"] * 3
    kinds = ("double", "array<string>", "array<boolean>", *numbers, "array<string>")
    none = {name: F.lit(None).cast(kind) for name, kind in zip((*TASTE, "shown_types"), kinds, strict=True)}
    return users.withColumns(none)


def matches(
    requests: DataFrame,
    live_figures: pd.DataFrame,
    *,
    catalogue: str,
    match: MatchConfig,
    ranking: RankingConfig,
    value: ValueConfig,
    direct: bool,
    keep: int | None,
    tasks: int,
    reranked: DataFrame | None = None,
) -> DataFrame:
    """user_id, ad_id and FIGURES of a pair: the `keep` best by score, or (None) every candidate.

    requests      as match_requests gives them
    live_figures  ad_id, rate, background, sigma, price of every live ad, in order of ad_id
    direct        follow the formula pair by pair instead of the table C: for few candidates
    reranked      the tastes of users, with TEXTS where it reads them, of a reranker: it scores what was kept anew

    A task takes blocks of live ads and some of the users; what the blocks keep is merged per user.
    """
    blocks = 1 if direct else max(ceil(len(live_figures) / match.block_ads), 1)

    def score_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.scoring import LiveAds, score_block, score_candidates

        folder = str(shared_folder(catalogue))
        live = LiveAds(folder, live_figures, match, task_device(), ranking=ranking, value=value)
        for batch in batches:
            for block, rows in batch.groupby("block"):
                for start in range(0, len(rows), USERS_AT_ONCE):
                    users = rows.iloc[start : start + USERS_AT_ONCE].reset_index(drop=True)
                    yield score_candidates(live, users) if direct else score_block(live, users, int(block), keep)

    each_block = F.explode(F.sequence(F.lit(0), F.lit(blocks - 1))).alias("block")
    share = F.pmod(F.crc32("user_id"), F.lit(max(tasks // blocks, 1)))
    found = (
        requests.select("user_id", "ad_ids", "query_hashes", "log_priors", *TASTE, "excluded", "candidates", each_block)
        .repartition(max(tasks, blocks), "block", share)
        .sortWithinPartitions("block")
        .mapInPandas(score_partition, SCHEMA)
        .withColumns(_null_for_nan())
    )
    is_merged = blocks > 1 and keep is not None
    if reranked is None and not is_merged:
        return found
    pair, order = F.struct("ad_id", *FIGURES), order_of(F.col("score"), F.col("log_odds"), F.col("ad_id"))
    rows = F.min_by(pair, order, keep) if is_merged else F.collect_list(pair)
    of_users = found.groupBy("user_id").agg(F.array_sort(rows).alias("rows"))
    if reranked is None:
        return of_users.select("user_id", F.explode("rows").alias("row")).select("user_id", "row.*")

    def rerank_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.scoring import LiveAds, score_again

        folder = str(shared_folder(catalogue))
        live = LiveAds(folder, live_figures, match, task_device(), ranking=ranking, value=value)
        for batch in batches:
            for start in range(0, len(batch), RERANKED_AT_ONCE):
                yield score_again(live, batch.iloc[start : start + RERANKED_AT_ONCE])

    of_users = of_users.select("user_id", *[F.col(f"rows.{name}").alias(name) for name in ("ad_id", *FIGURES)])
    given = with_tastes(of_users, reranked).drop("shown_types").repartition(tasks, F.crc32("user_id"))
    return given.mapInPandas(rerank_partition, SCHEMA).withColumns(_null_for_nan())


def _null_for_nan() -> dict[str, Column]:
    return {name: F.nanvl(name, F.lit(None).cast("double")) for name in ("match", "background", "score")}
