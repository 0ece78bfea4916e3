"""How good a day was: sums per user of every metric, which the bootstrap turns into values with intervals.

Whatever is a ratio of sums over users (click rate, nDCG, log loss) is computed in one pass over these sums.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.judged_lists import SCORERS
from llmrec_spark.metrics import RANKING_METRICS, ranking_metrics

SHOWN = "shown"  # the scorer of outcomes: what was shown, whoever ordered it
OUTCOME_RATIOS = ("ctr", "cvr", "roi")
OUTCOME_TOTALS = ("impressions", "clicks", "conversions", "revenue", "cost")


def ranking_sums(judged: DataFrame, slices: DataFrame, *, scorers: Sequence[str] = SCORERS, k: int) -> DataFrame:
    """user_id, slices, scorer, sums of the list of each user, as list_sums gives them.

    Reads    judged: user_id, clicked, `scorers` as doubles; slices: user_id (unique), slices

    Only lists with clicked and unclicked ads are judged: of any other, every order is as good.
    """
    entry = F.struct("clicked", *scorers)
    relevant = F.count_if("clicked").cast("int").alias("relevant")
    lists = judged.groupBy("user_id").agg(F.collect_list(entry).alias("shown"), relevant)
    mixed = lists.where((F.col("relevant") > 0) & (F.col("relevant") < F.size("shown")))
    laid_out = mixed.join(slices, on="user_id", how="inner").select(
        "user_id", "slices", "relevant", *[F.col(f"shown.{name}").alias(name) for name in ("clicked", *scorers)]
    )
    return list_sums(laid_out, scorers=scorers, k=k)


def list_sums(lists: DataFrame, *, scorers: Sequence[str], k: int) -> DataFrame:
    """user_id, slices, scorer, sums: RANKING_METRICS of the user's list, then 1 where there is one and else 0.

    Reads    user_id, slices array<string>, relevant int: the relevant ads there are for the user, in the list or not,
             clicked array<boolean>, and of each scorer array<double> as long (NULL ranks last); a NULL list is empty
    """

    def judge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            sizes = pc.fill_null(pc.list_value_length(batch.column("clicked")), 0).to_numpy()
            clicked = batch.column("clicked").flatten().to_numpy(zero_copy_only=False).astype(bool)
            relevant = batch.column("relevant").to_numpy()
            for scorer in scorers:
                scores = batch.column(scorer).flatten().to_numpy(zero_copy_only=False).astype(np.float64)
                found = ranking_metrics(scores, clicked, sizes, k=k, total=relevant)
                values = np.stack([found[name] for name in RANKING_METRICS], axis=1)  # (L, M)
                counted = ~np.isnan(values)
                sums = np.concatenate([np.where(counted, values, 0.0), counted], axis=1)
                offsets = pa.array(np.arange(len(sums) + 1, dtype=np.int32) * sums.shape[1])
                columns = [batch.column("user_id"), pa.array([scorer] * len(sums)), batch.column("slices")]
                arrays = [*columns, pa.ListArray.from_arrays(offsets, pa.array(sums.ravel()))]
                yield pa.RecordBatch.from_arrays(arrays, names=["user_id", "scorer", "slices", "sums"])

    schema = "user_id string, scorer string, slices array<string>, sums array<double>"
    laid_out = lists.select("user_id", "slices", "relevant", "clicked", *scorers)
    return laid_out.mapInArrow(judge, schema)


def outcome_sums(outcomes: DataFrame, slices: DataFrame, ads: DataFrame) -> DataFrame:
    """user_id, slice, scorer, sums of impressions: OUTCOME_RATIOS, their denominators, OUTCOME_TOTALS.

    Reads    outcomes, with source where the run has a row; slices of users; ads: ad_id (unique), category,
             advertiser_id

    Slices of the impression: position, source, category (each of several counts), advertiser. A log without values
    has revenue 0, one without costs no roi.
    """
    of_row = [
        _named("position", F.col("position").cast("string")),
        _named("source", F.col("source")),
        _named("advertiser", F.col("advertiser_id")),
    ]
    of_category = F.coalesce(F.transform("category", lambda one: F.concat(F.lit("category="), one)), F.array())
    every = F.array_distinct(F.concat("slices", F.array_compact(F.array(*of_row)), F.array_compact(of_category)))
    rows = (
        outcomes.join(slices, on="user_id", how="inner")
        .join(F.broadcast(ads.select("ad_id", "category", "advertiser_id")), on="ad_id", how="left")
        .withColumn("slice", F.explode(every))
    )
    one = F.lit(1.0)
    clicks, conversions = F.col("clicked").cast("double"), F.col("conversions").cast("double")
    value, cost = F.coalesce("value", F.lit(0.0)), F.coalesce("cost", F.lit(0.0))
    sums = [clicks, conversions, value - cost, one, clicks, cost, one, clicks, conversions, value, cost]
    return (
        rows.groupBy("user_id", "slice")
        .agg(F.array(*[F.sum(term) for term in sums]).alias("sums"))
        .select("user_id", "slice", F.lit(SHOWN).alias("scorer"), "sums")
    )


def _named(name: str, value: Column) -> Column:
    return F.when(value.isNotNull(), F.concat(F.lit(f"{name}="), value))
