"""How well each live ad matches people at large, and how far matches spread around that."""

from __future__ import annotations

from collections.abc import Iterator
from math import ceil

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import MatchConfig
from llmrec_spark.session import shared_folder, task_device

NOBODY = pd.DataFrame({"block": pd.Series(dtype="int32")})  # a task may get no row


def sample_histories(histories: DataFrame, *, users: int) -> DataFrame:
    """All histories, or those of the `users` with the smallest md5 of their id: the same sample every day."""
    return histories.orderBy(F.md5("user_id"), "user_id").limit(users)


def block_sums(sample: DataFrame, *, catalogue: str, live_ads: int, match: MatchConfig) -> DataFrame:
    """One row per live ad: ad_id, n (users with a usable history), background (their mean match), squares.

    squares is the sum of (match - background)^2 over these users; both are NULL for an ad without text, and nobody's
    history gives no row at all. A task takes a block of ads and the whole sample, in order, so the sums follow from
    the data alone. The result is read twice: materialise it.
    """
    blocks = max(ceil(live_ads / match.block_ads), 1)

    def sum_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        import numpy as np

        from llmrec_spark.model.behaviour_encoder import encode_histories
        from llmrec_spark.model.catalogue import open_catalogue
        from llmrec_spark.model.match import Parameters, block_tables, match_block

        folder, parameters, device = str(shared_folder(catalogue)), Parameters.of(match), task_device()
        for block, users in pd.concat([NOBODY, *batches], ignore_index=True).groupby("block"):
            users = users.sort_values("user_id")  # the sums must not depend on how rows arrived
            opened = open_catalogue(folder)
            items = opened.live[block * match.block_ads : (block + 1) * match.block_ads]
            has_text = (opened.fields[items] >= 0).any(axis=1)
            tables = block_tables(folder, int(block), match.block_ads, parameters, device)
            matched = match_block(tables, encode_histories(users, opened), has_text, parameters)  # (U, B)
            usable = matched[np.isfinite(matched).any(axis=1)]  # users with a usable history
            mean = usable.mean(axis=0) if len(usable) else np.full(len(items), np.nan)
            yield pd.DataFrame(
                {
                    "ad_id": opened.ad_ids[items],
                    "n": len(usable),
                    "background": mean,
                    "squares": ((usable - mean) ** 2).sum(axis=0),
                }
            )

    each_block = F.explode(F.sequence(F.lit(0), F.lit(blocks - 1))).alias("block")
    return (
        sample.select("user_id", "ad_ids", "query_hashes", "log_priors", each_block)
        .repartitionByRange(blocks, "block")
        .mapInPandas(sum_partition, "ad_id string, n bigint, background double, squares double")
        .withColumn("background", F.nanvl("background", F.lit(None).cast("double")))
        .withColumn("squares", F.nanvl("squares", F.lit(None).cast("double")))
    )


def backgrounds(sums: DataFrame, live: DataFrame) -> DataFrame:
    """One row per live ad: ad_id, background (mean match; NULL without text), sigma (one value for all ads).

    sigma is the population standard deviation of match - background over sample x live ads, NULL where nobody has a
    usable history. sums as block_sums gives them; ad_id is unique in both.
    """
    in_order = F.array_sort(F.collect_list(F.struct("ad_id", "n", "squares")))
    total = F.aggregate(in_order, F.lit(0.0), lambda t, ad: t + F.coalesce(ad["squares"], F.lit(0.0)))
    pairs = F.sum(F.when(F.col("squares").isNotNull(), F.col("n")))
    overall = sums.agg(F.sqrt(F.try_divide(total, pairs)).alias("sigma"))
    known = live.select("ad_id").join(sums.select("ad_id", "background"), on="ad_id", how="left")
    return known.crossJoin(F.broadcast(overall)).select("ad_id", "background", "sigma")
