"""Histories as a language model reads them: the newest clicks of a user as one text, the newest skips as another.

They are encoded anew by every run and training that reads them, and stored nowhere: a vector of what a user did says
what it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.sequences import SKIP, shown_before
from llmrec_spark.session import parallel_tasks, share_folder, shared_folder, task_device

NEWEST = 12  # ads of a text; an encoder reads no more words than some ten titles have
BETWEEN = "; "


def ad_names(ad_texts: DataFrame, *, fields: Sequence[str]) -> dict[str, str]:
    """ad_id -> what a text calls the ad: the first of `fields` that it has. Collects; grows with ads.

    Reads ad_id, field, text of AD_TEXTS.
    """
    place = F.array_position(F.array(*map(F.lit, fields)), F.col("field"))
    rows = pd.DataFrame(ad_texts.groupBy("ad_id").agg(F.min_by("text", place).alias("text")).toPandas())
    return dict(zip(rows["ad_id"], rows["text"], strict=True))


def newest_as_text(ad_ids: Sequence[str], names: Mapping[str, str]) -> str | None:
    """The NEWEST different ads that have a name, the newest first; None without any. ad_ids: oldest first."""
    known = dict.fromkeys(ad for ad in reversed(ad_ids) if ad in names)
    return BETWEEN.join(names[ad] for ad in list(known)[:NEWEST]) or None


def history_vectors(
    sequences: DataFrame,
    names: Mapping[str, str],
    *,
    config: Config,
    model_folder: Path,
    by: Sequence[str] = ("user_id",),
) -> DataFrame:
    """The columns of `by` and texts, the vectors (binary, D float32) of the clicks and of the skips, NULL without.

    Reads    SEQUENCES' arrays, `by` unique; names as ad_names gives them
    Vectors are centred as those of the first text field, which the texts are made of. A user who neither clicked nor
    skipped anything has no row.
    """
    from llmrec_spark.model.checkpoint import open_model

    spark, opened = sequences.sparkSession, open_model(model_folder)
    settings, centre = opened.config, opened.centre  # a folder is shared by its encoder, which other centres have too
    model = share_folder(spark, model_folder, f"model_{settings.encoder_digest}")
    budget = config.encoding.token_budget

    def encode_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.ad_encoder import load_ad_encoder
        from llmrec_spark.model.catalogue import centred_vectors
        from llmrec_spark.model.checkpoint import verify_golden

        folder, device = shared_folder(model), task_device()
        verify_golden(folder, device)
        encoder = load_ad_encoder(str(folder / "encoder"), settings.encoder, device)
        for batch in batches:
            of_role = []
            for wanted in (False, True):  # in the order of network_batches.TEXT_ROLES
                shown = zip(batch["shown_ads"], batch["shown_types"], strict=True)
                chosen = [[ad for ad, kind in zip(*row, strict=True) if (kind == SKIP) == wanted] for row in shown]
                of_role.append(pd.Series([newest_as_text(ads, names) for ads in chosen], dtype=object))
            texts = pd.concat(of_role).dropna().drop_duplicates().tolist()
            encoded = pd.Series([one.astype("<f4").tobytes() for one in encoder.encode(texts, budget).vectors], texts)
            named = pd.DataFrame({"field": settings.fields[0], "text_hash": texts})
            centred = centred_vectors(named, encoded, centre)[: len(texts)]
            vectors = {text: one.astype("<f4").tobytes() for text, one in zip(texts, centred, strict=True)}
            pairs = [[vectors.get(one) for one in pair] for pair in zip(*of_role, strict=True)]
            yield batch[list(by)].assign(texts=pairs)

    kinds = {name: kind for name, kind in sequences.dtypes if name in by}
    schema = ", ".join([*(f"{name} {kinds[name]}" for name in by), "texts array<binary>"])
    shown = shown_before(sequences, clicks=config.events.answers, by=by).select(*by, "shown_ads", "shown_types")
    return shown.repartition(parallel_tasks(spark), F.crc32("user_id")).mapInPandas(encode_partition, schema)


def texts_of_lists(
    sequences: DataFrame,
    names: Mapping[str, str],
    lists: pd.DataFrame,
    *,
    config: Config,
    model_folder: Path,
    by: Sequence[str],
) -> np.ndarray:
    """(L, 2, D) float32 of each row of `lists`, which has the columns `by`; 0 where there is no text.

    Reads as history_vectors, `by` being run_date (in `lists` as datetime64) and strings. Encoded and collected is only
    what these lists need.
    """
    from llmrec_spark.model.checkpoint import open_model
    from llmrec_spark.model.network_lists import read_texts

    keys = lists[list(by)].drop_duplicates()
    keys = keys.assign(run_date=keys["run_date"].dt.date)
    wanted = sequences.sparkSession.createDataFrame(keys, sequences.select(*by).schema)
    theirs = sequences.join(F.broadcast(wanted), on=list(by), how="left_semi")
    vectors = history_vectors(theirs, names, config=config, model_folder=model_folder, by=by)
    found = pd.DataFrame(vectors.toPandas()).astype({"run_date": "M8[ns]"})
    row = pd.MultiIndex.from_frame(found[list(by)]).get_indexer(pd.MultiIndex.from_frame(lists[list(by)]))
    width = open_model(model_folder).config.width
    read = [read_texts(pair, width=width) for pair in (*found["texts"], None)]  # None is row -1
    return np.asarray(np.stack(read)[row])
