"""How varied the lists of an evaluated run are, beside lists that are the same for everybody and random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from llmrec_spark import list_exposures, list_variety
from llmrec_spark.accepted_log import once
from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.config import Config
from llmrec_spark.errors import DataError
from llmrec_spark.metrics import VARIETY_METRICS, intra_list_diversity, self_information
from llmrec_spark.runs import encoder_of
from llmrec_spark.session import share_folder
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_STATISTICS, AD_TEXTS, BACKGROUNDS, MATCHES, RANKINGS, TEXT_VECTORS

COMMON = ("popularity", "random")


def lists_of(storage: Storage, run: Row, other: Row | None) -> DataFrame:
    """user_id, scorer, ad_id, rank of the lists of a run, scorer `score`, and of another run under its id."""
    found = storage.read_run(RANKINGS, run.run_id).withColumn("scorer", F.lit("score"))
    if other is not None:
        beside = storage.read_run(RANKINGS, other.run_id).withColumn("scorer", F.lit(other.run_id))
        found = found.unionByName(beside)
    return found.select("user_id", "scorer", "ad_id", "rank")


def variety_rows(
    storage: Storage,
    config: Config,
    run: Row,
    other: Row | None,
    *,
    events: DataFrame,
    ads: DataFrame,
    judged: DataFrame,
    slices: DataFrame,
    scratch: Path,
) -> DataFrame:
    """slice, scorer, metric, value, low, high, n, k: all that is said of the lists of a day, clicked or not.

    events   of before the day; ads: the company's, with evaluation.group_columns
    judged   user_id, ad_id (unique), clicked: shown on the day; slices: user_id (unique), slices of who has a list
    scratch  a folder that stays until the rows are written
    """
    of = config.evaluation
    groups, lists, met = _groups(config, ads), lists_of(storage, run, other), once(list_variety.met_ads(events))
    figures = _figures(storage, run, met, k=of.k)
    vectors = _vectors(storage, run, figures)
    list_variety.write_vectors(scratch / f"ads_{run.run_id}", vectors)
    shared = share_folder(storage.spark, scratch / f"ads_{run.run_id}", f"ads_{run.run_id}")
    of_ads = storage.spark.createDataFrame(figures)
    common = config.inputs.candidates is None
    if common:
        tops = once(list_variety.top_ads(lists, of_ads, k=of.k))
    else:
        given = storage.read_run(MATCHES, run.run_id).select("user_id", "ad_id")
        tops = once(list_variety.top_candidates(lists, given, of_ads, k=of.k))
    sums = list_variety.variety_sums(tops, of_ads, met, judged, slices, vectors=shared)
    if common:
        variety = {name: _of_list(figures, vectors, name) for name in COMMON}
        sums = sums.unionByName(list_variety.common_sums(of_ads, met, slices, variety=variety))
    beside = () if other is None else (other.run_id,)
    pairs = [("score", name) for name in (*COMMON, *beside)]
    resampling = Resampling(of.replicates, of.seed)
    found = intervals(sums, resampling, ratios=VARIETY_METRICS, pairs=pairs)
    found = found.where((F.col("n") > 0) | (F.col("scorer") == "score"))  # nobody saw a random list
    listed = tops.where(F.col("scorer") != "random")  # of candidates these are all of them, no list
    live = pd.Index(figures["ad_id"])
    found = found.unionByName(list_exposures.exposure_intervals(listed, groups, resampling, live=live))
    if common:
        expected = list_exposures.expected_exposures(_lengths(tops), groups, figures)
        found = found.unionByName(storage.spark.createDataFrame(expected))
    no_number = F.lit(None).cast("double")
    ends = {name: F.nanvl(name, no_number) for name in ("low", "high")}
    return found.withColumns({**ends, "k": F.lit(of.k)})


def _lengths(tops: DataFrame) -> pd.DataFrame:
    """length, lists: how many of the run's lists have it; as many rows as there are lengths."""
    of_users = tops.where("scorer = 'score'").groupBy("user_id").agg(F.count("*").alias("length"))
    return pd.DataFrame(of_users.groupBy("length").agg(F.count("*").alias("lists")).orderBy("length").toPandas())


def _groups(config: Config, ads: DataFrame) -> pd.DataFrame:
    columns = config.evaluation.group_columns
    missing = sorted(set(columns) - set(ads.columns))
    if missing:
        raise DataError(f"evaluation.group_columns: inputs.ads has no columns {missing}; it has {sorted(ads.columns)}.")
    return pd.DataFrame(list_exposures.ad_slices(ads, columns=columns).toPandas())


def _figures(storage: Storage, run: Row, met: DataFrame, *, k: int) -> pd.DataFrame:
    """ad_id, clicks, users_met, users, place, information, is_popular of the live ads of the run, by ad_id."""
    live = storage.read_run(BACKGROUNDS, run.run_id).select("ad_id")
    found = list_variety.live_figures(live, storage.read_run(AD_STATISTICS, run.run_id), met)
    figures = pd.DataFrame(found.toPandas()).sort_values("ad_id", ignore_index=True)
    popular = figures.sort_values(["clicks", "ad_id"], ascending=[False, True])["ad_id"].iloc[:k]
    return figures.assign(
        place=np.arange(len(figures), dtype=np.int32),
        information=self_information(figures["users_met"].to_numpy(), int(figures["users"].max())),
        is_popular=figures["ad_id"].isin(popular),
    )


def _vectors(storage: Storage, run: Row, figures: pd.DataFrame) -> np.ndarray:
    """(A, D) of the live ads; all zero where the run does not say which encoder's vectors are its own."""
    encoder = encoder_of(run)
    if encoder is None:
        return np.zeros((len(figures), 1), dtype=np.float32)
    ad_ids, texts = pd.Index(figures["ad_id"]), storage.read_run(AD_TEXTS, run.run_id)
    encoded = storage.read(TEXT_VECTORS).where(F.col("encoder_digest") == encoder)
    needed = encoded.join(texts.select("text_hash"), on="text_hash", how="left_semi").select("text_hash", "vector")
    by_hash = pd.DataFrame(needed.toPandas()).set_index("text_hash")["vector"]
    of_ads = pd.DataFrame(
        texts.select("ad_id", "field", "text_hash").toPandas()
    )  # behaviours too, which may have ended
    return list_variety.live_vectors(of_ads[of_ads["ad_id"].isin(ad_ids)], by_hash, ad_ids)


def _of_list(figures: pd.DataFrame, vectors: np.ndarray, scorer: str) -> tuple[float, float]:
    """Diversity and novelty of one list: of the popular ads, or of all live ones."""
    listed = figures["is_popular"].to_numpy() if scorer == "popularity" else np.ones(len(figures), dtype=bool)
    diversity = intra_list_diversity(vectors[listed], np.array([listed.sum()]))
    return float(diversity[0]), float(figures["information"].to_numpy()[listed].mean())
