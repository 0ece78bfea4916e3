"""Histories as a language model reads them: the newest clicks of a user as one text, the newest skips as another."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Window
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.model_registration import encode_missing
from llmrec_spark.sequences import SKIP, shown_before
from llmrec_spark.storage import Storage
from llmrec_spark.tables import TEXT_VECTORS

NEWEST = 12  # ads of a text; an encoder reads no more words than some ten titles have
BETWEEN = "; "
CLICKED, SKIPPED = ROLES = (0, 1)  # of the texts of a history


def history_texts(
    sequences: DataFrame, ad_texts: DataFrame, *, clicks: Sequence[str], fields: Sequence[str], by: Sequence[str]
) -> DataFrame:
    """The columns of `by`, role (CLICKED or SKIPPED) and text: a row where any ad of it has a text.

    Reads    SEQUENCES' arrays, `by` unique; AD_TEXTS' ad_id, field, text; `clicks` are the types that answer an
             impression

    A text names each ad by the first of `fields` that it has, the newest first, those of one moment by ad_id.
    """
    place = F.array_position(F.array(*map(F.lit, fields)), F.col("field"))
    names = ad_texts.groupBy("ad_id").agg(F.min_by("text", place).alias("text"))
    shown = F.arrays_zip("shown_ads", "shown_types", "shown_ts")
    each = shown_before(sequences, clicks=clicks, by=by).select(*by, F.inline(shown))
    each = each.withColumn("role", F.when(F.col("shown_types") == SKIP, SKIPPED).otherwise(CLICKED)).drop("shown_types")
    named = each.join(names, each["shown_ads"] == names["ad_id"], how="inner")
    newest = F.row_number().over(Window.partitionBy(*by, "role").orderBy(F.desc("shown_ts"), "ad_id"))
    kept = named.withColumn("newest", newest).where(F.col("newest") <= NEWEST)
    in_order = F.array_sort(F.collect_list(F.struct("newest", "text")))
    return kept.groupBy(*by, "role").agg(F.array_join(in_order["text"], BETWEEN).alias("text"))


def history_vectors(
    storage: Storage,
    config: Config,
    model_folder: Path,
    sequences: DataFrame,
    ad_texts: DataFrame,
    *,
    by: Sequence[str] = ("user_id",),
) -> tuple[DataFrame, int]:
    """The columns of `by` and texts, the vector (binary, D float32) of each role or NULL; and how many were encoded.

    Reads as history_texts; a text that `text_vectors` has is not encoded again.
    """
    from llmrec_spark.model.checkpoint import open_model

    model = open_model(model_folder).config
    found = history_texts(sequences, ad_texts, clicks=config.events.answers, fields=model.fields, by=by)
    texts = found.withColumn("text_hash", F.sha2(F.encode("text", "UTF-8"), 256)).persist()
    encoded = encode_missing(
        storage,
        config,
        texts.select("text_hash", "text"),
        encoder=model_folder,
        golden=True,
        settings=model.encoder,
        digest=model.encoder_digest,
    )
    vectors = storage.read(TEXT_VECTORS).where(F.col("encoder_digest") == model.encoder_digest)
    of_role = [F.max(F.when(F.col("role") == role, F.col("vector"))) for role in ROLES]
    joined = texts.join(vectors.select("text_hash", "vector"), on="text_hash", how="inner")
    return joined.groupBy(*by).agg(F.array(*of_role).alias("texts")), encoded


def texts_of_lists(
    storage: Storage,
    config: Config,
    model_folder: Path,
    sequences: DataFrame,
    ad_texts: DataFrame,
    lists: pd.DataFrame,
    *,
    by: Sequence[str],
) -> np.ndarray:
    """(L, 2, D) float32 of each row of `lists`, which has the columns `by`; 0 where there is no text.

    Reads as history_texts, `by` being run_date (in `lists` as datetime64) and strings. Only what these lists need is
    encoded and collected.
    """
    from llmrec_spark.model.network_lists import read_texts

    keys = lists[list(by)].drop_duplicates()
    wanted = storage.spark.createDataFrame(keys.assign(run_date=keys["run_date"].dt.date), sequences.select(*by).schema)
    theirs = sequences.join(F.broadcast(wanted), on=list(by), how="left_semi")
    vectors, _ = history_vectors(storage, config, model_folder, theirs, ad_texts, by=by)
    found = pd.DataFrame(vectors.toPandas()).astype({"run_date": "M8[ns]"})
    width = max((len(one) // 4 for pair in found["texts"] for one in pair if one is not None), default=0)
    row = pd.MultiIndex.from_frame(found[list(by)]).get_indexer(pd.MultiIndex.from_frame(lists[list(by)]))
    read = [read_texts(pair, width=width) for pair in (*found["texts"], None)]  # None is row -1
    return np.asarray(np.stack(read)[row])
