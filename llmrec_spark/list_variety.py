"""How varied the top of each user's list is: sums per user, which the bootstrap turns into values with intervals.

The vectors of the ads reach the executors as one file that every node maps; rows of a list name places in it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.metrics import VARIETY_METRICS, variety_metrics
from llmrec_spark.session import shared_folder

LISTS_AT_ONCE = 512  # whose vectors are in memory
FILE = "ads.npy"
FLAGS = ("met", "shown", "clicked", "expected")


def live_vectors(texts: pd.DataFrame, vectors: pd.Series, ad_ids: pd.Index) -> np.ndarray:
    """(A, D) float32: of each ad the mean of its field vectors, of unit length; zeros for an ad without text.

    texts    ad_id, field, text_hash of these ads; one row per ad and field
    vectors  bytes (D float32) by text_hash, uncentred

    Of every vector the mean of its field over these ads is subtracted first, whatever encoder made it: texts of one
    kind lie close together in the space of some encoders, and what they have in common says nothing of variety. So 1
    is the diversity of ads picked at random, in any space.
    """
    from llmrec_spark.model.behaviour_encoder import behaviour_vectors
    from llmrec_spark.model.catalogue import centred_vectors

    fields = sorted(texts["field"].unique())
    distinct = texts[["field", "text_hash"]].drop_duplicates().sort_values(["field", "text_hash"])
    row = pd.MultiIndex.from_frame(distinct).get_indexer(pd.MultiIndex.from_frame(texts[["field", "text_hash"]]))
    table = np.full((len(ad_ids), len(fields)), -1, dtype=np.int32)
    table[ad_ids.get_indexer(texts["ad_id"]), texts["field"].map(fields.index)] = row
    uncentred = centred_vectors(distinct, vectors, None)
    ads = np.bincount(row, minlength=len(distinct))  # that share a text
    of_field = distinct["field"].to_numpy()
    centre = {
        field: np.average(uncentred[of_field == field], axis=0, weights=ads[of_field == field]) for field in fields
    }
    return behaviour_vectors(centred_vectors(distinct, vectors, centre), table)


def write_vectors(folder: Path, vectors: np.ndarray) -> None:
    """Writes what `variety_sums` maps."""
    folder.mkdir(parents=True)
    np.save(folder / FILE, vectors, allow_pickle=False)


@lru_cache(maxsize=2)
def _mapped(folder: str) -> np.ndarray:
    return np.asarray(np.load(Path(folder) / FILE, mmap_mode="r", allow_pickle=False))


def met_ads(events: DataFrame) -> DataFrame:
    """user_id, ad_id, once each: every ad that a user was shown or acted on."""
    return events.where(F.col("ad_id").isNotNull()).select("user_id", "ad_id").distinct()


def live_figures(live: DataFrame, statistics: DataFrame, met: DataFrame) -> DataFrame:
    """ad_id, clicks (of the run's rate window), users_met, users (who met any ad) of each live ad.

    live: ad_id, unique; statistics: ad_id (unique), clicks; met: user_id, ad_id, unique
    """
    of_ads = met.groupBy("ad_id").agg(F.count("*").alias("users_met"))
    users = met.agg(F.count_distinct("user_id").alias("users"))
    return (
        live.join(statistics.select("ad_id", "clicks"), on="ad_id", how="left")
        .join(of_ads, on="ad_id", how="left")
        .crossJoin(F.broadcast(users))
        .select("ad_id", *[F.coalesce(name, F.lit(0)).alias(name) for name in ("clicks", "users_met", "users")])
    )


def top_ads(lists: DataFrame, ads: DataFrame, *, k: int) -> DataFrame:
    """user_id, scorer, ad_id, expected: the first k of each list; `expected` are those that are popular.

    lists  user_id, scorer, ad_id, rank; ads: ad_id (unique), is_popular, of the ads that could be shown
    """
    return (
        lists.where(F.col("rank") <= k)
        .join(F.broadcast(ads.select("ad_id", "is_popular")), on="ad_id", how="inner")
        .select("user_id", "scorer", "ad_id", F.col("is_popular").alias("expected"))
    )


def top_candidates(lists: DataFrame, candidates: DataFrame, ads: DataFrame, *, k: int) -> DataFrame:
    """The same where each user was given ads (candidates: user_id, ad_id, unique), with these ads in other orders.

    popularity  the k most clicked of them, which are `expected`
    random      all of them: a mean over them is what k of them have on average

    ads has `clicks`, and ties of it go by ad_id.
    """
    by_clicks = Window.partitionBy("user_id").orderBy(F.desc("clicks"), "ad_id")
    given = (
        candidates.join(F.broadcast(ads.select("ad_id", "clicks")), on="ad_id", how="inner")
        .withColumn("expected", F.row_number().over(by_clicks) <= k)
        .select("user_id", "ad_id", "expected")
    )
    own = (
        lists.where(F.col("rank") <= k)
        .join(given, on=["user_id", "ad_id"], how="inner")
        .select("user_id", "scorer", "ad_id", "expected")
    )
    each = F.array_compact(F.array(F.lit("random"), F.when(F.col("expected"), F.lit("popularity"))))
    return own.unionByName(given.select("user_id", F.explode(each).alias("scorer"), "ad_id", "expected"))


def variety_sums(
    tops: DataFrame, ads: DataFrame, met: DataFrame, judged: DataFrame, slices: DataFrame, *, vectors: str
) -> DataFrame:
    """user_id, slices, scorer, sums: VARIETY_METRICS of the user's list, then 1 where there is one and else 0.

    tops     user_id, scorer, ad_id, expected
    ads      ad_id (unique), place in the shared folder `vectors`, information
    met      user_id, ad_id of before the day, unique; judged: user_id, ad_id (unique), clicked: shown on the day
    slices   user_id (unique), slices
    """

    def judge(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        of_ads = _mapped(str(shared_folder(vectors)))
        for batch in batches:
            for start in range(0, batch.num_rows, LISTS_AT_ONCE):
                lists = batch.slice(start, LISTS_AT_ONCE)
                values = {name: lists.column(name).flatten().to_numpy(zero_copy_only=False) for name in names}
                found = variety_metrics(
                    of_ads[values["place"]],
                    values["information"],
                    **{flag: values[flag].astype(bool) for flag in FLAGS},
                    sizes=np.diff(lists.column("place").offsets.to_numpy()),
                )
                by_list = np.stack([found[name] for name in VARIETY_METRICS], axis=1)  # (L, M)
                counted = ~np.isnan(by_list)
                sums = np.concatenate([np.where(counted, by_list, 0.0), counted], axis=1)
                offsets = pa.array(np.arange(len(sums) + 1, dtype=np.int32) * sums.shape[1])
                arrays = [lists.column(name) for name in ("user_id", "scorer", "slices")]
                arrays.append(pa.ListArray.from_arrays(offsets, pa.array(sums.ravel())))
                yield pa.RecordBatch.from_arrays(arrays, names=["user_id", "scorer", "slices", "sums"])

    names = ("place", "information", *FLAGS)
    pair = ["user_id", "ad_id"]
    marked = (
        tops.join(F.broadcast(ads.select("ad_id", "place", "information")), on="ad_id", how="inner")
        .join(met.select(*pair, F.lit(True).alias("met")), on=pair, how="left")
        .join(judged.select(*pair, "clicked", F.lit(True).alias("shown")), on=pair, how="left")
    )
    entry = F.struct("place", "information", *[_flag(name) for name in FLAGS])
    lists = marked.groupBy("user_id", "scorer").agg(F.collect_list(entry).alias("list"))
    laid_out = lists.join(slices, on="user_id", how="inner").select(
        "user_id", "scorer", "slices", *[F.col(f"list.{name}").alias(name) for name in names]
    )
    schema = "user_id string, scorer string, slices array<string>, sums array<double>"
    return laid_out.mapInArrow(judge, schema)


def common_sums(
    ads: DataFrame, met: DataFrame, slices: DataFrame, *, variety: Mapping[str, tuple[float, float]]
) -> DataFrame:
    """The sums of lists that are the same for every user of `slices`: of `popularity` and `random`.

    ads      ad_id (unique), is_popular, of the ads that could be shown; random is all of them, as for candidates
    met      user_id, ad_id of before the day, unique
    variety  scorer -> diversity and novelty of its list, NaN where there is none

    The serendipity of popular ads is 0, since they are what is expected; that of random ones is not known.
    """
    both = {"popularity": F.col("is_popular"), "random": F.lit(True)}
    length = ads.agg(*[F.count_if(flag).alias(f"{name}_length") for name, flag in both.items()])
    seen = met.join(F.broadcast(ads.select("ad_id", "is_popular")), on="ad_id", how="inner")
    repeated = seen.groupBy("user_id").agg(*[F.count_if(flag).alias(name) for name, flag in both.items()])
    each = []
    for name, (diversity, novelty) in variety.items():
        repeats = F.coalesce(name, F.lit(0)) / F.col(f"{name}_length")
        has_pairs = not np.isnan(diversity)
        numerators = [F.lit(diversity if has_pairs else 0.0), F.lit(novelty), F.lit(0.0), repeats]
        denominators = [F.lit(float(one)) for one in (has_pairs, True, name == "popularity", True)]
        each.append(F.struct(F.lit(name).alias("scorer"), F.array(*numerators, *denominators).alias("sums")))
    return (
        slices.join(repeated, on="user_id", how="left")
        .crossJoin(F.broadcast(length))
        .select("user_id", "slices", F.explode(F.array(*each)).alias("one"))
        .select("user_id", "one.scorer", "slices", "one.sums")
    )


def _flag(name: str) -> Column:
    return F.coalesce(name, F.lit(False)).alias(name)
