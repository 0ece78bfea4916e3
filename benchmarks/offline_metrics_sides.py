"""One side of benchmarks/offline_metrics.py, in a process and an environment of its own: ours, or replay-rec's.

    python benchmarks/offline_metrics_sides.py ours|replay FOLDER

Starts Spark, then answers every line of standard input, which says how many replicates to draw, with a line: seconds of
the whole computation, from files to numbers, and the numbers. Both sides read the same files with the same settings.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F

K = 10
SETTINGS = {
    "spark.master": "local[*]",
    "spark.driver.memory": "4g",
    "spark.sql.shuffle.partitions": "2",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}
OF_REPLAY = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "recall": "Recall", "precision": "Precision"}
OF_REPLAY["hit_rate"] = "HitRate"


def ours(recommended: DataFrame, truths: DataFrame, replicates: int) -> dict[str, float]:
    """The metrics as evaluate_daily computes them: sums per user, then values with intervals."""
    from llmrec_spark.bootstrap import Resampling, intervals
    from llmrec_spark.evaluations import list_sums
    from llmrec_spark.metrics import RANKING_METRICS

    found = intervals(
        list_sums(judged_lists(recommended, truths), scorers=["score"], k=K),
        Resampling(replicates, 1),
        ratios=RANKING_METRICS,
    )
    return {row.metric: row.value for row in found.collect() if row.metric in OF_REPLAY}


def judged_lists(recommended: DataFrame, truths: DataFrame) -> DataFrame:
    """What list_sums reads, one row per user with truths; a user without a list has an empty one."""
    lists = recommended.groupBy("user_id").agg(F.collect_list(F.struct("item_id", "score")).alias("items"))
    wanted = truths.groupBy("user_id").agg(F.collect_set("item_id").alias("wanted"))
    both = wanted.join(lists, on="user_id", how="left")
    return both.select(
        F.col("user_id").cast("string").alias("user_id"),
        F.array(F.lit("all")).alias("slices"),
        F.size("wanted").alias("relevant"),
        F.transform("items", lambda item: F.array_contains("wanted", item.item_id)).alias("clicked"),
        F.col("items.score").alias("score"),
    )


def replay(recommended: DataFrame, truths: DataFrame, replicates: int) -> dict[str, float]:
    """The metrics of replay-rec's OfflineMetrics, which has no intervals of this kind: replicates must be 0."""
    from replay import metrics

    if replicates:
        raise ValueError("replay-rec draws no replicates")
    asked = [getattr(metrics, name)(K) for name in OF_REPLAY.values()]
    judge = metrics.OfflineMetrics(asked, query_column="user_id", item_column="item_id", rating_column="score")
    found = judge(recommended, truths)
    return {ours_: float(found[f"{name}@{K}"]) for ours_, name in OF_REPLAY.items()}


def answer(side: Callable[[DataFrame, DataFrame, int], dict[str, float]], folder: Path) -> None:
    """Answers the lines of standard input until it ends."""
    builder = SparkSession.builder.appName("offline metrics")
    for key, value in SETTINGS.items():
        builder = builder.config(key, value)
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    for line in sys.stdin:
        started = time.perf_counter()
        recommended, truths = (spark.read.parquet(str(folder / name)) for name in ("recommended", "truths"))
        values = side(recommended, truths, int(line))
        print(json.dumps({"seconds": time.perf_counter() - started, "values": values}), flush=True)
    spark.stop()


if __name__ == "__main__":
    answer({"ours": ours, "replay": replay}[sys.argv[1]], Path(sys.argv[2]))
