"""The best and worst lists of an evaluated day, with titles and reasons in words: for who may see persons."""

from __future__ import annotations

import pandas as pd
from pyspark.sql import functions as F

from llmrec_spark.config import Config
from llmrec_spark.daily_evaluation import Evaluation
from llmrec_spark.explanations import Words, reasons_in_words
from llmrec_spark.storage import Storage
from llmrec_spark.tables import AD_TEXTS, RANKINGS, SEQUENCES

COLUMNS = ["kind", "user_id", "rank", "title", "clicked", "score", "reasons"]


def examples_in_words(storage: Storage, config: Config, evaluated: Evaluation) -> pd.DataFrame:
    """kind, user_id, rank, title, clicked, score, reasons: the shown ads of the run's lists, in order of rank.

    An ad that was shown and does not stand in the list of the run is left out: nothing was said of it.
    """
    shown = evaluated.examples
    if shown.empty:
        return pd.DataFrame(columns=COLUMNS)
    users, run_id = sorted(shown["user_id"].unique()), evaluated.run.run_id
    of_users = F.col("user_id").isin(users)
    lists = storage.read_run(RANKINGS, run_id).where(of_users).orderBy("user_id", "rank").collect()
    histories = storage.read_run(SEQUENCES, run_id).where(of_users).collect()
    words = Words(storage, config, storage.read_run(AD_TEXTS, run_id), histories, lists)
    said = [(words.title.get(row.ad_id, row.ad_id), reasons_in_words(row, words)) for row in lists]
    listed = [(row.user_id, row.ad_id, row["rank"], row.score) for row in lists]
    told = pd.DataFrame(listed, columns=["user_id", "ad_id", "rank", "score"])
    told[["title", "reasons"]] = pd.DataFrame(said, columns=["title", "reasons"])
    return told.merge(shown, on=["user_id", "ad_id"], how="inner")[COLUMNS]
