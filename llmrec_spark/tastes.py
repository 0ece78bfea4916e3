"""What a trained model makes of each history: how readily the user clicks, and a weight per ad shown before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import date

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight
from llmrec_spark.sequences import SKIP, shown_before
from llmrec_spark.session import shared_folder


def tastes(sequences: DataFrame, *, as_of: date, clicks: Sequence[str], catalogue: str, tasks: int) -> DataFrame:
    """The columns of TASTES but run_id, one row per user who clicked or skipped anything, as of 00:00 UTC.

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
            yield batch[["user_id", "shown_ads", "shown_types", "age_days"]].assign(**learned)

    schema = (
        "user_id string, shown_ads array<string>, shown_types array<string>, age_days array<double>, "
        "level double, weights array<double>, residuals array<double>"
    )
    began = F.unix_micros(midnight(as_of))
    ages = F.transform("shown_ts", lambda ts: (began - F.unix_micros(ts)) / F.lit(86_400e6))
    shown = shown_before(sequences, clicks=clicks).withColumn("age_days", ages).drop("shown_ts")
    return shown.repartition(tasks, F.crc32("user_id")).mapInPandas(taste_partition, schema)
