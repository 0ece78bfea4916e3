"""A few lists of a day to look at: those that a run ordered best, and worst, by what was clicked. Not stored."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.metrics import RANKING_METRICS

NDCG = RANKING_METRICS.index("ndcg")
EACH = 3  # lists of either kind


def example_lists(user_sums: DataFrame, judged: DataFrame) -> DataFrame:
    """kind (best or worst), user_id, ad_id, clicked: what was shown to the users whose lists have the largest nDCG, and
    the smallest.

    user_sums  as `ranking_sums` gives them of scorer score: one row a user
    judged     user_id, ad_id, clicked

    Of equal lists those come first whose md5(user_id) is smaller; a user is in one kind only.
    """
    quality = user_sums.select("user_id", F.col("sums")[NDCG].alias("ndcg"), F.md5("user_id").alias("chance"))
    best = quality.orderBy(F.desc("ndcg"), "chance").limit(EACH)
    rest = quality.join(best.select("user_id"), on="user_id", how="left_anti")
    worst = rest.orderBy("ndcg", "chance").limit(EACH)
    chosen = best.withColumn("kind", F.lit("best")).unionByName(worst.withColumn("kind", F.lit("worst")))
    return judged.join(F.broadcast(chosen), on="user_id", how="inner").select("kind", "user_id", "ad_id", "clicked")
