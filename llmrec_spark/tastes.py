"""What a trained model makes of each history: how readily the user clicks, and a weight per ad shown before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.sequences import SKIP, shown_before
from llmrec_spark.session import shared_folder


def tastes(sequences: DataFrame, *, clicks: Sequence[str], catalogue: str, tasks: int) -> DataFrame:
    """The columns of TASTES but run_id, one row per user who clicked or skipped anything.

    Reads    SEQUENCES' arrays of a run; `clicks` are the types that answer an impression
             catalogue: the shared name of the run's, with the ranker of a trained model
    """

    def taste_partition(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.model.taste_scoring import trained_ads

        ads = trained_ads(str(shared_folder(catalogue)))
        assert ads is not None
        for batch in batches:
            found = ads.tastes(batch.assign(clicked=[kinds != SKIP for kinds in batch["shown_types"]]))
            learned = {name: found[name] for name in ("level", "weights", "residuals")}
            yield batch[["user_id", "shown_ads", "shown_types"]].assign(**learned)

    schema = (
        "user_id string, shown_ads array<string>, shown_types array<string>, "
        "level double, weights array<double>, residuals array<double>"
    )
    shown = shown_before(sequences, clicks=clicks).repartition(tasks, F.crc32("user_id"))
    return shown.mapInPandas(taste_partition, schema)
