"""The ads and queries of a run as one folder of arrays that every node fetches once. Grows with ads, not with users."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.errors import DataError


def behaved_ads(sequences: DataFrame, *, skips: bool) -> DataFrame:
    """ad_id of every ad in a history, each once; with `skips` also of those that were shown and not clicked."""
    ads = F.concat("ad_ids", "skipped_ad_ids") if skips else F.col("ad_ids")
    return sequences.select(F.explode(ads).alias("ad_id")).where(F.col("ad_id").isNotNull()).distinct()


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
    figures: DataFrame | None = None,
    neighbours: DataFrame | None = None,
) -> None:
    """Collects what the match, or a trained ranker, needs of the ads and writes it to `folder`, on the driver.

    Reads    ad_texts (ad_id, field, text_hash, keywords) of every ad of `live` and `behaved` (ad_id each, unique),
             queries (query_hash, keywords), text_vectors (text_hash, vector) of one encoder; `figures` of a trained
             model, one row per ad: ad_id, COUNTED and the columns that its ranker names;
             `neighbours`, as AD_NEIGHBOURS, of one that reads them
    """
    from llmrec_spark.model.catalogue import build_catalogue, save_figures
    from llmrec_spark.model.checkpoint import open_model

    model = open_model(model_folder)
    texts = ad_texts.select("ad_id", "field", "text_hash", "keywords")
    hashes = texts.select("text_hash").union(queries.select("query_hash")).distinct()
    vectors = text_vectors.select("text_hash", "vector").join(hashes, on="text_hash", how="left_semi")
    live_ids = [row.ad_id for row in live.select("ad_id").collect()]
    behaved_ids = [row.ad_id for row in behaved.select("ad_id").collect()]
    catalogue = build_catalogue(
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
        neighbours=None if neighbours is None else pd.DataFrame(neighbours.toPandas()),
    )
    catalogue.save(folder)
    if figures is not None and model.ranker is not None:
        columns = model.config.ranker_columns or ()
        save_figures(
            folder,
            catalogue,
            pd.DataFrame(figures.toPandas()),
            ranker=model.ranker,
            columns=columns,
            groups=model.config.ranker_groups,
        )


def ad_columns(ads: DataFrame, columns: Sequence[str], groups: Sequence[str]) -> DataFrame:
    """ad_id, `columns` as doubles (NULL where one is no number) and `groups` as strings. Raises DataError without them.

    `ads` are those of inputs.ads, as they are checked. A list is one value, whole.
    """
    missing = sorted({*columns, *groups} - set(ads.columns))
    if missing:
        raise DataError(
            f"inputs.ads: lacks the columns {missing} that the model learns from (ranker.columns, ranker.groups). "
            f"Columns there: {', '.join(sorted(ads.columns))}."
        )
    kinds = dict(ads.dtypes)
    numbers = [F.expr(f"try_cast(`{name}` AS double)").alias(name) for name in columns]
    lists = [name for name in groups if kinds[name].startswith("array")]
    words = [
        (F.to_json(f"`{name}`") if name in lists else F.col(f"`{name}`").cast("string")).alias(name) for name in groups
    ]
    return ads.select("ad_id", *numbers, *words)
