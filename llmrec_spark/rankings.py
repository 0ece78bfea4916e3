"""The final list of each user: ordered, without near duplicates, under caps, with reasons."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F
from pyspark.sql.pandas.functions import pandas_udf

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.matches import TASTE, TEXTS, with_tastes
from llmrec_spark.session import shared_folder, task_device
from llmrec_spark.texts import normalise

REASONS = "array<struct<ad_id: string, event_type: string, field: string, contribution: double>>"
LISTED = ("listed", "score", "log_odds", "match", "rate", "lift")
GROUPS = ("advertiser", "category", "duplicate")  # what a list may hold only so many of
TRAINED = ("p_click", "p_conversion", "expected_value")  # NULL without a trained model
SCHEMA = (
    "user_id string, rank int, ad_id string, score double, log_odds double, match double, rate double, lift double, "
    f"p_click double, p_conversion double, expected_value double, source string, reasons {REASONS}"
)


def ad_groups(live: DataFrame) -> DataFrame:
    """ad_id and the groups that caps count: advertiser, category, duplicate; strings, NULL for no group.

    duplicate is shared by ads of the same title (but for case and spacing) and the same known advertiser.
    """

    def fold(titles: Iterator[pd.Series]) -> Iterator[pd.Series]:
        for batch in titles:
            yield batch.map(lambda title: "" if title is None else normalise(title).casefold())

    title = pandas_udf(fold, "string")("title")  # type: ignore[call-overload]
    is_known = F.col("advertiser_id").isNotNull() & (F.col("folded") != "")
    return live.select("ad_id", "advertiser_id", "category", title.alias("folded")).select(
        "ad_id",
        F.col("advertiser_id").alias("advertiser"),
        F.when(F.size("category") > 0, F.to_json("category")).alias("category"),
        F.when(is_known, F.to_json(F.struct("advertiser_id", "folded"))).alias("duplicate"),
    )


def group_numbers(groups: pd.DataFrame) -> np.ndarray:
    """What ad_groups found, as (A, 3) int32 in order of ad_id: the number of each ad's group, -1 for none."""
    in_order = groups.sort_values("ad_id")
    return np.stack([pd.factorize(in_order[name])[0] for name in GROUPS], axis=1).astype(np.int32)


def matched_ads(matches: DataFrame, exclusions: DataFrame, *, tasks: int) -> DataFrame:
    """One row per user: user_id and arrays of one length, in no order: listed (ad_id), score, log_odds, match, rate,
    lift; without ads of `exclusions`, spread over `tasks` tasks.

    matches  rows of MATCHES, of which those without a finite score are left out
    """
    return (
        matches.where(F.abs("score") < F.lit(float("inf")))  # not NULL, nor NaN
        .join(exclusions.select("user_id", "ad_id"), on=["user_id", "ad_id"], how="left_anti")
        .select("user_id", F.struct("ad_id", *LISTED[1:]).alias("ad"))
        .repartition(tasks, "user_id")  # adaptive execution would put a day of a few MB into one task
        .groupBy("user_id")
        .agg(F.collect_list("ad").alias("ads"))
        .select("user_id", F.col("ads.ad_id").alias("listed"), *[F.col(f"ads.{name}") for name in LISTED[1:]])
    )


def rankings(
    matched: DataFrame,
    histories: DataFrame,
    groups: np.ndarray,
    live_figures: pd.DataFrame,
    *,
    catalogue: str,
    fields: Sequence[str],
    match: MatchConfig,
    ranking: RankingConfig,
    value: ValueConfig,
    model_version: str,
    tastes: DataFrame | None = None,
) -> DataFrame:
    """The columns of RANKINGS but run_id: at most K rows a user, rank from 1.

    matched, histories, tastes: one row a user, as matched_ads, sequences.histories and a run's TASTES give them,
    with TEXTS if they are read; groups, live_figures: group_numbers and, as matches has them, figures of the live ads.
    A list is ordered by score, then log_odds, each to 6 significant digits, then ad_id. source is `personal` for users
    with a usable history, else `cold_start`. propensity is NULL: no stage gives it yet.
    """

    def rank_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.lists import ListMaker

        folder = str(shared_folder(catalogue))
        make = ListMaker(folder, fields, groups, live_figures, match, ranking, value, task_device())
        for batch in batches:
            yield make(batch)

    known = with_tastes(matched.join(histories, on="user_id", how="left"), tastes)
    texts = [name for name in known.columns if name == TEXTS]
    together = known.select(
        "user_id", *LISTED, "ad_ids", "query_hashes", "event_types", "log_priors", *TASTE, "shown_types", *texts
    )
    ranked = together.mapInPandas(rank_partition, SCHEMA)
    unknown = F.lit(None).cast("double")
    numbers = {name: F.nanvl(name, unknown) for name in ("match", *TRAINED)}
    return ranked.withColumns(numbers | {"propensity": unknown, "model_version": F.lit(model_version)})
