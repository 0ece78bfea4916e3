"""An encoder becomes a model: its texts' centre and keyword frequencies taken from the ads, its folder written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame

from llmrec_spark import ad_texts as texts_stage
from llmrec_spark import text_vectors as vectors_stage
from llmrec_spark.ads import checked_ads
from llmrec_spark.column_maps import mapped_input
from llmrec_spark.config import Config, EncoderConfig
from llmrec_spark.errors import DataError
from llmrec_spark.quarantine import accepted
from llmrec_spark.runs import say
from llmrec_spark.session import progress, share_folder
from llmrec_spark.storage import Storage
from llmrec_spark.tables import TEXT_VECTORS
from llmrec_spark.texts import text_hash

EMBEDDED = ("minilm", "multilingual")


def encoder_folder(encoder: str, settings: EncoderConfig, cache: Path) -> tuple[Path, EncoderConfig]:
    """The Hugging Face folder of an embedded encoder, a folder or a hub id, and how it is to be read."""
    from llmrec_spark.model.ad_encoder import fetch_encoder
    from llmrec_spark.model.embedded import restore_embedded_encoder

    if encoder in EMBEDDED:
        folder = cache / encoder
        return folder, restore_embedded_encoder(encoder, folder)  # type: ignore[arg-type]
    return fetch_encoder(encoder, cache), settings


def write_model_of_ads(
    storage: Storage,
    config: Config,
    *,
    encoder: Path,
    settings: EncoderConfig,
    name: str,
    folder: Path,
    base: str | None = None,
) -> dict[str, Any]:
    """Encodes every ad of `inputs.ads`, writes the model to `folder` and returns facts about it.

    base   of an encoder with an adapter, the registered version that it was adapted from
    The vectors stay in `text_vectors`, so the first scoring run encodes none of them again.
    """
    from llmrec_spark.model.ad_encoder import encoder_digest
    from llmrec_spark.model.checkpoint import GOLDEN_TEXTS, ModelConfig, write_model

    pinned = storage.pin("ads", config.inputs.ads)
    ads = accepted(
        checked_ads(mapped_input("ads", pinned.rows, pinned.where, config.inputs.ads, config.text.separators))
    )
    texts = texts_stage.ad_texts(
        texts_stage.field_texts(ads, fields=config.text.fields, max_characters=config.text.max_characters)
    ).persist()
    documents = texts.select("ad_id").distinct().count()
    if not documents:
        raise DataError(
            f"inputs.ads ({pinned.where}): no ad has a text in {list(config.text.fields)}. Check the column map."
        )
    digest = encoder_digest(encoder, settings)
    encode_missing(storage, config, texts, encoder=encoder, golden=False, settings=settings, digest=digest)
    vectors = storage.read(TEXT_VECTORS).where(f"encoder_digest = '{digest}'")
    means = field_means(texts, vectors)
    frequency = {row.keyword: row.ads for row in texts_stage.document_frequency(texts).collect()}
    width = len(next(iter(means.values())))
    model = ModelConfig(
        encoder=settings,
        encoder_digest=digest,
        width=width,
        fields=config.text.fields,
        centred=settings.centred,
        name=name,
        base=base,
    )
    model_digest = write_model(
        folder,
        encoder_folder=encoder,
        config=model,
        centre=means if settings.centred else None,
        documents=documents,
        document_frequency=frequency,
        golden=encoded_now(storage, config, GOLDEN_TEXTS, encoder=encoder, settings=settings, digest=digest),
    )
    texts.unpersist()
    return {
        "encoder": name,
        "encoder_digest": digest,
        "model_digest": model_digest,
        "ads": documents,
        "ads_version": pinned.version,
        "keywords": len(frequency),
        **{f"encoder.{key}": value for key, value in settings.model_dump().items()},
    }


def encode_missing(
    storage: Storage,
    config: Config,
    texts: DataFrame,
    *,
    encoder: Path,
    golden: bool,
    settings: EncoderConfig,
    digest: str,
) -> int:
    """Encodes the distinct texts (text_hash, text) that `text_vectors` lacks for this encoder; returns how many.

    `encoder` is its folder or, with `golden`, that of a model whose golden vectors are checked first.
    """
    missing = vectors_stage.missing_texts(texts, storage.read(TEXT_VECTORS), encoder_digest=digest).persist()
    count = missing.count()
    if count:
        say(f"  text_vectors: {count:,} texts to encode")
        encoded = vectors_stage.text_vectors(
            missing,
            encoder=share_folder(storage.spark, encoder, f"{'model' if golden else 'encoder'}_{digest}"),
            golden=golden,
            settings=settings,
            encoder_digest=digest,
            token_budget=config.encoding.token_budget,
            tasks=vectors_stage.encoding_tasks(storage.spark, count),
        )
        with progress(storage.spark, "text_vectors"):
            storage.add_missing(TEXT_VECTORS, encoded)
    missing.unpersist()
    return count


def encoded_now(
    storage: Storage, config: Config, texts: Sequence[str], *, encoder: Path, settings: EncoderConfig, digest: str
) -> np.ndarray:
    """The vectors of a few distinct texts, (n, D) float32, encoded by an executor now, whatever `text_vectors` has."""
    hashes = [text_hash(text) for text in texts]
    rows = storage.spark.createDataFrame(list(zip(hashes, texts, strict=True)), "text_hash string, text string")
    encoded = vectors_stage.text_vectors(
        rows,
        encoder=share_folder(storage.spark, encoder, f"encoder_{digest}"),
        golden=False,
        settings=settings,
        encoder_digest=digest,
        token_budget=config.encoding.token_budget,
        tasks=1,
    )
    found = {row.text_hash: row.vector for row in encoded.collect()}
    return np.stack([np.frombuffer(found[one], dtype="<f4") for one in hashes])


def field_means(texts: DataFrame, vectors: DataFrame) -> Mapping[str, np.ndarray]:
    """The mean vector of each field over the ads that have it, (D,) float32. Distinct texts reach the driver once."""
    counts = pd.DataFrame(texts.groupBy("field", "text_hash").count().orderBy("field", "text_hash").toPandas())
    found = vectors.join(texts.select("text_hash").distinct(), on="text_hash", how="left_semi")
    by_hash = pd.DataFrame(found.select("text_hash", "vector").toPandas()).set_index("text_hash")["vector"]
    means = {}
    for field, rows in counts.groupby("field"):
        stacked = np.frombuffer(b"".join(by_hash.loc[rows["text_hash"]]), dtype="<f4").reshape(len(rows), -1)
        weights = rows["count"].to_numpy(dtype=np.float64)
        means[str(field)] = (weights @ stacked.astype(np.float64) / weights.sum()).astype(np.float32)
    return means
