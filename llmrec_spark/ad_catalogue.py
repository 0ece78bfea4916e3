"""The ads and queries of a run as one folder of arrays that every node fetches once. Grows with ads, not with users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F


def behaved_ads(sequences: DataFrame) -> DataFrame:
    """ad_id of every ad in a history, each once."""
    return sequences.select(F.explode("ad_ids").alias("ad_id")).where(F.col("ad_id").isNotNull()).distinct()


def write_catalogue(
    folder: Path,
    *,
    model_folder: Path,
    ad_texts: DataFrame,
    queries: DataFrame,
    text_vectors: DataFrame,
    live: DataFrame,
    behaved: DataFrame,
    fields: Sequence[str],
) -> None:
    """Collects what the match needs of the ads and writes it to `folder`, on the driver.

    Reads    ad_texts (ad_id, field, text_hash, keywords) of every ad of `live` and `behaved` (ad_id each, unique),
             queries (query_hash, keywords), text_vectors (text_hash, vector) of one encoder
    """
    from llmrec_spark.model.catalogue import build_catalogue
    from llmrec_spark.model.checkpoint import open_model

    model = open_model(model_folder)
    texts = ad_texts.select("ad_id", "field", "text_hash", "keywords")
    hashes = texts.select("text_hash").union(queries.select("query_hash")).distinct()
    vectors = text_vectors.select("text_hash", "vector").join(hashes, on="text_hash", how="left_semi")
    live_ids = [row.ad_id for row in live.select("ad_id").collect()]
    behaved_ids = [row.ad_id for row in behaved.select("ad_id").collect()]
    build_catalogue(
        texts.toPandas(),
        queries.select("query_hash", "keywords").toPandas(),
        pd.DataFrame(vectors.toPandas()).set_index("text_hash")["vector"],
        ad_ids=sorted({*live_ids, *behaved_ids}),
        live=live_ids,
        behaved=behaved_ids,
        fields=fields,
        centre=model.centre,
        frequency=model.document_frequency,
        documents=model.documents,
    ).save(folder)
