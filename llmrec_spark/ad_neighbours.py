"""Which ads the same people act on: the nearest neighbours of each ad by whose history it is in, whatever it says."""

from __future__ import annotations

from pyspark.sql import DataFrame
from pyspark.sql import functions as F

MOST = 50  # neighbours kept of an ad
FEWEST_TOGETHER = 2  # users with both ads: what one did alone says little, and would tell others of it
USERS = 100_000  # whose histories are counted; pairs that matter stand in many


def ad_neighbours(histories: DataFrame, *, most: int = MOST, users: int = USERS) -> DataFrame:
    """The columns of AD_NEIGHBOURS but run_id, nearest first: one row per ad that has a neighbour.

    Reads    user_id and ad_ids (NULL at a search), one row a user
    most     neighbours kept of an ad; of equal ones those with the larger id

    similarity = n_ij / sqrt(n_i n_j), n the users with ad i, with j, with both in their history: the cosine of
    item-based collaborative filtering (Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
    2001). Of more than `users` users with an ad, those with the smallest md5 of their id are counted.
    """
    with_ad = histories.where(F.exists("ad_ids", lambda ad: ad.isNotNull()))
    counted = with_ad.orderBy(F.md5("user_id"), "user_id").limit(users)
    acted = counted.select("user_id", F.explode(F.array_distinct("ad_ids")).alias("ad_id")).where("ad_id IS NOT NULL")
    counts = acted.groupBy("ad_id").agg(F.count("*").alias("users"))
    other = acted.select("user_id", F.col("ad_id").alias("neighbour"))
    of_other = counts.select(F.col("ad_id").alias("neighbour"), F.col("users").alias("its_users"))
    both = acted.join(other, on="user_id").where("ad_id <> neighbour").groupBy("ad_id", "neighbour")
    near = (
        both.agg(F.count("*").alias("together"))
        .where(F.col("together") >= FEWEST_TOGETHER)
        .join(counts, on="ad_id")
        .join(of_other, on="neighbour")
        .withColumn("similarity", F.col("together") / F.sqrt(F.col("users") * F.col("its_users")))
    )
    pair = F.struct("similarity", "neighbour")  # in this order
    nearest = near.groupBy("ad_id").agg(F.max_by(pair, pair, most).alias("nearest"))
    return nearest.select(
        "ad_id",
        F.col("nearest.neighbour").alias("neighbours"),
        F.col("nearest.similarity").alias("similarities"),
    )
