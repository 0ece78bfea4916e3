"""How well given lists are ordered: what was shown on a day, ordered by a run's matches, against what was clicked."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight

SCORERS = ("random", "rate", "match", "score")


def judged_lists(impressions: DataFrame, matches: DataFrame, histories: DataFrame, *, on: date) -> DataFrame:
    """Shown ads of a day as a run scored them: user_id, request_id, clicked, match, rate, score, has_history.

    Reads    impressions (clicked_impressions), matches of a run, histories: user_id of everyone met before the day
    Ads without a row in `matches` have NULL scores and rank last.
    """
    of_day = impressions.where(
        (F.col("event_ts") >= midnight(on)) & (F.col("event_ts") < midnight(on + timedelta(days=1)))
    )
    met = histories.select("user_id", F.lit(True).alias("has_history")).distinct()
    return (
        of_day.groupBy("user_id", "request_id", "ad_id")
        .agg(F.max("clicked").alias("clicked"))
        .join(matches.select("user_id", "ad_id", "match", "rate", "score"), on=["user_id", "ad_id"], how="left")
        .join(met, on="user_id", how="left")
        .select(
            "user_id",
            "request_id",
            "clicked",
            "match",
            "rate",
            "score",
            F.col("has_history").isNotNull().alias("has_history"),
        )
    )


def list_metrics(judged: DataFrame, *, k: int) -> DataFrame:
    """One row per list that has clicked and unclicked ads: user_id, request_id, scorer, ndcg, auc, unscored."""

    def judge(lists: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        from llmrec_spark.metrics import auc, ndcg_at_k

        for batch in lists:
            rows = []
            for row in batch.itertuples():
                table = pd.DataFrame.from_records(row.shown, columns=["clicked", "match", "rate", "score"])
                clicked = table["clicked"].to_numpy(dtype=bool)
                table["random"] = 0.0  # all tied: the expectation over orders, not one draw
                unscored = int(table["score"].isna().sum())
                for scorer in SCORERS:
                    scores = table[scorer].to_numpy(dtype=float)
                    rows.append(
                        (
                            row.user_id,
                            row.request_id,
                            scorer,
                            ndcg_at_k(scores, clicked, k),
                            auc(scores, clicked),
                            unscored,
                        )
                    )
            yield pd.DataFrame(rows, columns=["user_id", "request_id", "scorer", "ndcg", "auc", "unscored"])

    mixed = judged.groupBy("user_id", "request_id").agg(
        F.collect_list(F.struct("clicked", "match", "rate", "score")).alias("shown"),
        F.count_if("clicked").alias("clicks"),
        F.count("*").alias("n"),
    )
    schema = "user_id string, request_id string, scorer string, ndcg double, auc double, unscored int"
    of_interest = mixed.where((F.col("clicks") > 0) & (F.col("clicks") < F.col("n")))
    return of_interest.select("user_id", "request_id", "shown").mapInPandas(judge, schema)


def mean_metrics(metrics: DataFrame) -> DataFrame:
    """Means over lists: scorer, lists, ndcg, auc, unscored (shown ads without a score, over all lists)."""
    return metrics.groupBy("scorer").agg(
        F.count("*").alias("lists"),
        F.avg("ndcg").alias("ndcg"),
        F.avg("auc").alias("auc"),
        F.sum("unscored").alias("unscored"),
    )
