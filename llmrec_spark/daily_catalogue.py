"""What the workers of a day need of its ads: texts encoded where they were not, and one folder of arrays, shared."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark import ad_catalogue
from llmrec_spark.config import Config
from llmrec_spark.model_registration import encode_missing
from llmrec_spark.registry import ResolvedModel
from llmrec_spark.runs import ENCODED, Run, say
from llmrec_spark.session import share_folder
from llmrec_spark.storage import Storage
from llmrec_spark.tables import TEXT_VECTORS
from llmrec_spark.text_vectors import token_counts

if TYPE_CHECKING:
    from llmrec_spark.model.checkpoint import ModelConfig


def share_catalogue(
    storage: Storage,
    config: Config,
    run: Run,
    model: ResolvedModel,
    reads: ModelConfig,
    scratch: Path,
    *,
    texts: DataFrame,
    asked: DataFrame,
    live: DataFrame,
    behaved: DataFrame,
    figures: DataFrame | None,
    neighbours: DataFrame | None,
) -> str:
    """Encodes what has no vector yet and shares the arrays the match needs; returns their shared name.

    texts, live, behaved, figures, neighbours: as ad_catalogue.write_catalogue reads them; asked: queries to be compared
    with; reads: what `model` is
    """
    asked_texts = asked.select(F.col("query_hash").alias("text_hash"), "text")
    to_read = texts.select("text_hash", "text").union(asked_texts)
    with run.timed(TEXT_VECTORS.name):
        run.counts[TEXT_VECTORS.name] = encode_missing(
            storage,
            config,
            to_read,
            encoder=model.folder,
            golden=True,
            settings=reads.encoder,
            digest=reads.encoder_digest,
        )
    if ENCODED + reads.encoder_digest not in run.completed:
        run.completed.append(ENCODED + reads.encoder_digest)
    vectors = storage.read(TEXT_VECTORS).where(F.col("encoder_digest") == reads.encoder_digest)
    [read] = token_counts(to_read, vectors).collect()
    run.counts |= read.asDict()
    unknown_share = read.tokens_unknown / max(read.tokens_read, 1)
    if unknown_share > config.text.max_unknown_share:
        say(
            f"  WARNING text_vectors: {unknown_share:.0%} of the tokens are unknown to the encoder of model "
            f"{model.version} (bound text.max_unknown_share = {config.text.max_unknown_share:.0%}). "
            "It does not know the language of these texts: register the multilingual one, by jobs/register_model.py "
            "--embedded multilingual."
        )
    folder = scratch / f"catalogue_{run.run_id}"
    ad_catalogue.write_catalogue(
        folder,
        model_folder=model.folder,
        ad_texts=texts,
        queries=asked,
        text_vectors=vectors,
        live=live,
        behaved=behaved,
        fields=reads.fields,
        figures=figures,
        neighbours=neighbours,
    )
    return share_folder(storage.spark, folder, folder.name)


def ranker_figures(reads: ModelConfig, ads: DataFrame, statistics: DataFrame) -> DataFrame | None:
    """What a trained ranker reads of `ads` beside their texts: counts and columns; None of an untrained model."""
    if reads.ranker_columns is None:
        return None
    counts = statistics.select("ad_id", "shown", "clicks", "settled", "converted")
    columns = ad_catalogue.ad_columns(ads, reads.ranker_columns, reads.ranker_groups)
    return counts.join(columns, on="ad_id", how="inner")


def live_figures(statistics: DataFrame, ambient: DataFrame, live: DataFrame, *, pricing: str) -> pd.DataFrame:
    """ad_id, rate, background, sigma and price of the live ads, in order of ad_id.

    Reads AD_STATISTICS, BACKGROUNDS and the bids of `live`; pricing as value.pricing says what a price is of.
    """
    price = F.col("bid" if pricing == "per_click" else "mean_value").alias("price")
    figures = (
        statistics.join(ambient, on="ad_id", how="inner")
        .join(live.select("ad_id", "bid"), on="ad_id", how="inner")
        .select("ad_id", "rate", "background", "sigma", price)
    )
    return pd.DataFrame(figures.toPandas()).sort_values("ad_id", ignore_index=True)
