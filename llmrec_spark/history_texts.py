"""Histories as a language model reads them: the newest clicks of a user as one text, the newest skips as another.

They are encoded anew by every run and training that reads them, and no table has them: a vector of what a user did says
what it was. Where several processes learn from them, they lie in `ranker.learning.folder` until the last has ended.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.sequences import SKIP, shown_before
from llmrec_spark.session import share_folder
from llmrec_spark.text_vectors import encoding_tasks, text_vectors

NEWEST = 12  # ads of a text; an encoder reads no more words than some ten titles have
BETWEEN = "; "
ROLES = (False, True)  # whether an ad was skipped, in the order of network_batches.TEXT_ROLES


def ad_names(ad_texts: DataFrame, *, fields: Sequence[str]) -> DataFrame:
    """ad_id and name, what a text calls the ad: the first of `fields` that it has.

    Reads ad_id, field, text of AD_TEXTS.
    """
    place = F.array_position(F.array(*map(F.lit, fields)), F.col("field"))
    return ad_texts.groupBy("ad_id").agg(F.min_by("text", place).alias("name"))


def history_texts(
    sequences: DataFrame, names: DataFrame, *, clicks: Sequence[str], by: Sequence[str] = ("user_id",)
) -> DataFrame:
    """The columns of `by`, is_skip, text and text_hash: the NEWEST different ads that have a name, the newest first.

    Reads    SEQUENCES' arrays, `by` unique; names as ad_names gives them; `clicks` answer an impression
    There is a row for each text that is not empty, two a history at most.
    """
    shown = shown_before(sequences, clicks=clicks, by=by)
    each = shown.select(*by, F.posexplode(F.arrays_zip("shown_ads", "shown_types")).alias("place", "one"))
    is_skip = F.col("one.shown_types") == SKIP
    ads = each.select(*by, "place", F.col("one.shown_ads").alias("ad_id"), is_skip.alias("is_skip"))
    last = ads.groupBy(*by, "is_skip", "ad_id").agg(F.max("place").alias("place")).join(names, on="ad_id")
    newest = F.sort_array(F.collect_list(F.struct("place", "name")), asc=False)
    listed = last.groupBy(*by, "is_skip").agg(F.slice(newest, 1, NEWEST).alias("newest"))
    texts = listed.select(*by, "is_skip", F.concat_ws(BETWEEN, "newest.name").alias("text"))
    return texts.withColumn("text_hash", F.sha2("text", 256))


def history_vectors(texts: DataFrame, *, config: Config, model_folder: Path) -> DataFrame:
    """The other columns of history_texts' rows and texts, the vectors (binary, D float32) of the clicks and the skips.

    NULL stands for a text that there is not; a history without either has no row. Every distinct text is encoded once
    and centred as those of the first text field, which the texts are made of. `texts` are read more than once.
    """
    from llmrec_spark.model.checkpoint import open_model

    spark, opened = texts.sparkSession, open_model(model_folder)
    settings, centre = opened.config, opened.centre  # a folder is shared by its encoder, which other centres have too
    encoded = text_vectors(
        texts.groupBy("text_hash").agg(F.min("text").alias("text")),
        encoder=share_folder(spark, model_folder, f"model_{settings.encoder_digest}"),
        golden=True,
        settings=settings.encoder,
        encoder_digest=settings.encoder_digest,
        token_budget=config.encoding.token_budget,
        tasks=encoding_tasks(spark, texts.count()),
    )

    def centre_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.catalogue import centred_vectors

        for batch in batches:
            named = pd.DataFrame({"field": settings.fields[0], "text_hash": batch["text_hash"]})
            vectors = batch.set_index("text_hash")["vector"]
            found = centred_vectors(named, vectors, centre)[: len(batch)]
            yield batch.assign(vector=[one.astype("<f4").tobytes() for one in found])

    rows = encoded.select("text_hash", "vector")
    centred = rows.mapInPandas(centre_partition, rows.schema).hint("merge")  # a broadcast has to be there in minutes
    by = [name for name in texts.columns if name not in ("is_skip", "text", "text_hash")]
    pair = F.array(*(F.max(F.when(F.col("is_skip") == role, F.col("vector"))) for role in ROLES))
    return texts.join(centred, on="text_hash").groupBy(*by).agg(pair.alias("texts"))


def texts_of_lists(
    sequences: DataFrame,
    names: DataFrame,
    lists: pd.DataFrame,
    *,
    config: Config,
    model_folder: Path,
    by: Sequence[str],
) -> np.ndarray:
    """(L, 2, D) float32 of each row of `lists`, which has the columns `by`; 0 where there is no text.

    Reads    SEQUENCES' arrays, `by` being run_date (in `lists` as datetime64) and strings; names as ad_names gives them
    Encoded and collected is only what these lists need.
    """
    from llmrec_spark.model.checkpoint import open_model
    from llmrec_spark.model.network_lists import read_texts

    keys = lists[list(by)].drop_duplicates()
    code = pd.MultiIndex.from_frame(keys).get_indexer(pd.MultiIndex.from_frame(lists[list(by)]))
    wanted = keys.assign(run_date=keys["run_date"].dt.date)
    asked = sequences.sparkSession.createDataFrame(wanted, sequences.select(*by).schema)
    theirs = sequences.join(F.broadcast(asked), on=list(by), how="left_semi")
    texts = history_texts(theirs, names, clicks=config.events.answers, by=by).persist(StorageLevel.DISK_ONLY)
    vectors = history_vectors(texts, config=config, model_folder=model_folder).persist(StorageLevel.DISK_ONLY)
    place = {key: number for number, key in enumerate(wanted.itertuples(index=False, name=None))}
    found = np.zeros((len(place), len(ROLES), open_model(model_folder).config.width), dtype=np.float32)
    for row in vectors.toLocalIterator():  # a task's rows at a time
        *key, pair = row
        found[place[tuple(key)]] = read_texts(pair, width=found.shape[2])
    for kept in (vectors, texts):
        kept.unpersist()
    return np.asarray(found[code])
