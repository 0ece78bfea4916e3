"""A published day answered by simulated people: their events join the log, as a company's would."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pandas as pd
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.daily_publishing import published_run
from llmrec_spark.errors import DataError
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage, write_input
from llmrec_spark.tables import RECOMMENDATIONS


def answer_day(storage: Storage, config: Config, day: date, answer: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Appends to `inputs.events` what `answer` makes of the lists of a day (user_id, rank, ad_id, propensity).

    Every event names the run whose list was shown. A day that was answered is left as it is. Raises DataError where
    the day is not published.
    """
    published = published_run(storage, day)
    if published is None:
        raise DataError(f"recommendations: {day} is not published. Run jobs/score_daily.py --date {day} first.")
    log = storage.pin("events", config.inputs.events).rows
    if "run_id" in log.columns and log.where(F.col("event_id").startswith(f"e-{day:%Y%m%d}-answer")).head(1):
        say(f"{day} was answered already: inputs.events is as it was.")
        return
    of_day = storage.read(RECOMMENDATIONS).where(F.col("run_date") == F.lit(str(day)).cast("date"))
    lists = of_day.select("user_id", "rank", "ad_id", "propensity").orderBy("user_id", "rank")
    events = answer(pd.DataFrame(lists.toPandas())).assign(run_id=published.run_id)
    rows = storage.spark.createDataFrame(events)
    say(f"{day}: {write_input(rows, config.inputs.events, append=True):,} events answer run {published.run_id}")
