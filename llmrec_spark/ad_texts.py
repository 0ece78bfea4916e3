"""What an encoder reads of each ad, field by field, and its keywords."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.texts import WORD_FIELDS, field_keywords, field_text, normalise, text_hash

SCHEMA = (
    "ad_id string, field string, text string, text_hash string, keywords array<string>, "
    "is_truncated boolean, is_empty boolean"
)


def field_texts(ads: DataFrame, *, fields: Sequence[str], max_characters: int) -> DataFrame:
    """One row per ad and field that is not NULL: ad_id, field, text, text_hash, keywords, is_truncated, is_empty.

    Reads    ad_id and `fields`, a string or a list of phrases each; ad_id is unique

    The text is normalised and cut at `max_characters`; keywords come from the text as cut. A field that is empty once
    normalised has is_empty true, text "" and no keywords.
    """

    def read_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for batch in batches:
            whole = [field_text(values) for values in batch["phrases"]]
            text = [one[:max_characters].rstrip() for one in whole]
            keywords = [
                field_keywords(field, values if len(one) == len(full) else phrases_within(field, values, one))
                for field, values, one, full in zip(batch["field"], batch["phrases"], text, whole, strict=True)
            ]
            yield pd.DataFrame(
                {
                    "ad_id": batch["ad_id"],
                    "field": batch["field"],
                    "text": text,
                    "text_hash": [text_hash(one) for one in text],
                    "keywords": keywords,
                    "is_truncated": [len(one) < len(full) for one, full in zip(text, whole, strict=True)],
                    "is_empty": [not one for one in text],
                }
            )

    kinds = dict(ads.dtypes)
    phrases = [F.col(name) if kinds[name] == "array<string>" else F.array(name) for name in fields]
    present = [
        F.when(
            F.col(name).isNotNull(), F.struct(F.lit(name).alias("field"), F.filter(value, F.isnotnull).alias("phrases"))
        )
        for name, value in zip(fields, phrases, strict=True)
    ]
    return (
        ads.select("ad_id", F.explode(F.filter(F.array(*present), F.isnotnull)).alias("f"))
        .select("ad_id", "f.field", "f.phrases")
        .mapInPandas(read_partition, SCHEMA)
    )


def phrases_within(field: str, phrases: Sequence[str], text: str) -> list[str]:
    """What a text that was cut still holds: the text where the field is prose, else the phrases it holds whole."""
    if field in WORD_FIELDS:
        return [text]
    kept, length = [], -2  # no ", " before the first
    for phrase in filter(None, map(normalise, phrases)):
        length += 2 + len(phrase)
        if length > len(text):
            break
        kept.append(phrase)
    return kept


def ad_texts(field_texts: DataFrame) -> DataFrame:
    """The rows an encoder can read: ad_id, field, text, text_hash, keywords."""
    return field_texts.where(~F.col("is_empty")).select("ad_id", "field", "text", "text_hash", "keywords")


def text_counts(field_texts: DataFrame) -> DataFrame:
    """One row: truncated, empty and doubled texts (doubled: the same text in the same field of another ad)."""
    doubled = F.sum(F.when(~F.col("is_empty"), 1)) - F.count_distinct(
        F.when(~F.col("is_empty"), F.struct("field", "text_hash"))
    )
    return field_texts.agg(
        F.count_if("is_truncated").alias("truncated_texts"),
        F.count_if("is_empty").alias("empty_texts"),
        F.coalesce(doubled, F.lit(0)).alias("doubled_texts"),
    )


def document_frequency(ad_texts: DataFrame) -> DataFrame:
    """In how many ads each keyword stands: keyword, ads."""
    pairs = ad_texts.select("ad_id", F.explode("keywords").alias("keyword")).distinct()
    return pairs.groupBy("keyword").agg(F.count("*").alias("ads"))
