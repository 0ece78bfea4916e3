"""Which ads there are, and which are live on a day."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight
from llmrec_spark.input_tables import ADS
from llmrec_spark.quarantine import REFUSED, refuse_doubles


def checked_ads(ads: DataFrame) -> DataFrame:
    """`ads` with `refused`: a NULL ad_id, an end before the start, all but the first row of an ad_id."""
    reason = F.when(F.col("ad_id").isNull(), "NULL ad_id").when(
        F.col("ends_at") < F.col("starts_at"), "ends_at before starts_at"
    )
    marked = ads.withColumn(REFUSED, reason)
    return refuse_doubles(marked, key=["ad_id"], order=[c.name for c in ADS.columns if c.name != "ad_id"])


def live_ads(ads: DataFrame, *, on: date) -> DataFrame:
    """The ads that run on a day: started before its end, not ended before 00:00 UTC of it."""
    started = F.col("starts_at").isNull() | (F.col("starts_at") < midnight(on + timedelta(days=1)))
    not_ended = F.col("ends_at").isNull() | (F.col("ends_at") > midnight(on))
    return ads.where(started & not_ended)
