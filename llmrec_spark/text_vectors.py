"""One vector per distinct text and encoder, encoded once ever."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd
from pyspark.sql import DataFrame, SparkSession, Window
from pyspark.sql import functions as F

from llmrec_spark.config import EncoderConfig
from llmrec_spark.session import parallel_tasks, shared_folder, task_device

TEXTS_PER_CHUNK = 128  # consecutive texts in order of (length, hash): the batches follow from the data alone
TASKS_PER_SLOT = 8  # so that the progress shown moves and no task waits long for the last


def missing_texts(texts: DataFrame, text_vectors: DataFrame, *, encoder_digest: str) -> DataFrame:
    """The distinct texts (text_hash, text) that the encoder has not encoded yet."""
    known = text_vectors.where(F.col("encoder_digest") == encoder_digest).select("text_hash")
    distinct = texts.groupBy("text_hash").agg(F.min("text").alias("text"))
    return distinct.join(known, on="text_hash", how="left_anti")


def in_chunks(texts: DataFrame) -> DataFrame:
    """text_hash, text -> chunk, texts array<struct<bytes, text_hash, text>>: runs of texts of nearly one length.

    The global order is (UTF-8 bytes, text_hash); its positions come from a count per length, so that no task sorts
    everything.
    """
    measured = texts.select(F.octet_length("text").alias("bytes"), "text_hash", "text")
    before = Window.orderBy("bytes").rowsBetween(Window.unboundedPreceding, -1)
    starts = (  # one row per length: small
        measured.groupBy("bytes").agg(F.count("*").alias("n")).select("bytes", F.sum("n").over(before).alias("start"))
    )
    of_length = F.row_number().over(Window.partitionBy("bytes").orderBy("text_hash")) - 1
    place = F.coalesce("start", F.lit(0)) + F.col("of_length")
    return (
        measured.withColumn("of_length", of_length)
        .join(F.broadcast(starts), on="bytes", how="inner")
        .select(F.floor(place / TEXTS_PER_CHUNK).alias("chunk"), F.struct("bytes", "text_hash", "text").alias("text"))
        .groupBy("chunk")
        .agg(F.array_sort(F.collect_list("text")).alias("texts"))
    )


def encoding_tasks(spark: SparkSession, texts: int) -> int:
    """How many tasks the encoding of so many texts is cut into: one or more, none without a chunk."""
    return min(TASKS_PER_SLOT * parallel_tasks(spark), max(-(-texts // TEXTS_PER_CHUNK), 1))


def text_vectors(
    texts: DataFrame,
    *,
    encoder: str,
    golden: bool,
    settings: EncoderConfig,
    encoder_digest: str,
    token_budget: int,
    tasks: int,
) -> DataFrame:
    """encoder_digest, text_hash, vector (binary, D float32), tokens, unknown_share of each text.

    Reads    text_hash, text; text_hash is unique
    `encoder` is the shared folder of an encoder or, with `golden`, of a model whose golden vectors each task checks on
    its device first. `tasks` is how many tasks the work is cut into.
    """

    def encode_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.ad_encoder import load_ad_encoder  # here, so only executors import torch
        from llmrec_spark.model.checkpoint import verify_golden

        folder, device = shared_folder(encoder), task_device()
        if golden:
            verify_golden(folder, device)
        model = load_ad_encoder(str(folder / "encoder" if golden else folder), settings, device)  # once per worker
        for batch in batches:
            for chunk in batch["texts"]:
                encoded = model.encode([row["text"] for row in chunk], token_budget)
                yield pd.DataFrame(
                    {
                        "encoder_digest": encoder_digest,
                        "text_hash": [row["text_hash"] for row in chunk],
                        "vector": [vector.tobytes() for vector in encoded.vectors],
                        "tokens": encoded.tokens,
                        "unknown_share": encoded.unknown_share,
                    }
                )

    schema = "encoder_digest string, text_hash string, vector binary, tokens int, unknown_share float"
    dealt = (F.col("chunk") % tasks).cast("int")  # chunks go by length: long and short ones to every task, equally many
    spread = in_chunks(texts).repartitionById(tasks, dealt)
    return spread.select("texts").mapInPandas(encode_partition, schema)


def token_counts(texts: DataFrame, text_vectors: DataFrame) -> DataFrame:
    """One row: texts_read, tokens_read, tokens_unknown (to the encoder) of these texts, each text once."""
    of_texts = texts.select("text_hash").distinct().join(text_vectors, on="text_hash", how="inner")
    unknown = F.sum(F.rint(F.col("unknown_share") * F.col("tokens")).cast("bigint"))  # whole, but for float32
    return of_texts.agg(
        F.count("*").alias("texts_read"),
        F.coalesce(F.sum("tokens"), F.lit(0)).alias("tokens_read"),
        F.coalesce(unknown, F.lit(0)).alias("tokens_unknown"),
    )
