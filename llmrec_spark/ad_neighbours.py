"""Which ads the same people act on: the nearest neighbours of each ad by whose history it is in, whatever it says.

co_click   n_ij / sqrt(n_i n_j), n the users with ad i, with j, with both in their history: the cosine of item-based
           collaborative filtering (Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
           2001)
ease       -P_ij / P_jj, P = (X'X + 300 I)^-1 of the users x ads X that says whose history has what: the weights of
           the linear model that tells each ad from the others (Steck, "Embarrassingly shallow autoencoders for
           sparse data", 2019), so an ad is near what goes with it rather than with everything
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

MOST = 50  # neighbours kept of an ad
FEWEST_TOGETHER = 2  # users with both ads: what one did alone says little, and would tell others of it
USERS = 100_000  # whose histories are counted; pairs that matter stand in many
PENALTY = 300.0  # of EASE, in users
ADS = 10_000  # of EASE, those with most users: one worker holds a matrix of so many rows, 800 MB, and inverts it
DECIMALS = 6  # of a weight of EASE: the last ones of an inverse are those of its processor


def ad_neighbours(histories: DataFrame, *, by: str, most: int = MOST, users: int = USERS, ads: int = ADS) -> DataFrame:
    """The columns of AD_NEIGHBOURS but run_id, nearest first: one row per ad that has a neighbour.

    Reads    user_id and ad_ids (NULL at a search), one row a user
    by       co_click or ease
    most     neighbours kept of an ad; of equal ones those with the larger id
    ads      those with most users that ease compares; of equal ones those with the smaller id

    Of more than `users` users with an ad, those with the smallest md5 of their id are counted. Two ads are neighbours
    that FEWEST_TOGETHER users have, and whose similarity is above 0.
    """
    with_ad = histories.where(F.exists("ad_ids", lambda ad: ad.isNotNull()))
    counted = with_ad.orderBy(F.md5("user_id"), "user_id").limit(users)
    acted = counted.select("user_id", F.explode(F.array_distinct("ad_ids")).alias("ad_id")).where("ad_id IS NOT NULL")
    near = cosines(acted) if by == "co_click" else ease_weights(acted, most=most, ads=ads)
    pair = F.struct("similarity", "neighbour")  # in this order
    nearest = near.groupBy("ad_id").agg(F.max_by(pair, pair, most).alias("nearest"))
    return nearest.select(
        "ad_id",
        F.col("nearest.neighbour").alias("neighbours"),
        F.col("nearest.similarity").alias("similarities"),
    )


def cosines(acted: DataFrame) -> DataFrame:
    """ad_id, neighbour, similarity of every pair, by co_click: acted user_id, ad_id, each pair once."""
    counts = acted.groupBy("ad_id").agg(F.count("*").alias("users"))
    other = acted.select("user_id", F.col("ad_id").alias("neighbour"))
    of_other = counts.select(F.col("ad_id").alias("neighbour"), F.col("users").alias("its_users"))
    both = acted.join(other, on="user_id").where("ad_id <> neighbour").groupBy("ad_id", "neighbour")
    return (
        both.agg(F.count("*").alias("together"))
        .where(F.col("together") >= FEWEST_TOGETHER)
        .join(counts, on="ad_id")
        .join(of_other, on="neighbour")
        .withColumn("similarity", F.col("together") / F.sqrt(F.col("users") * F.col("its_users")))
    )


def ease_weights(acted: DataFrame, *, most: int, ads: int) -> DataFrame:
    """The same of the `most` nearest of each ad by ease: one worker inverts the matrix of the ads with most users."""

    def solved(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        given = list(batches)
        if given:
            yield from ease_of(pd.concat(given), most=most, ads=ads)

    columns = acted.select("user_id", "ad_id").coalesce(1)
    return columns.mapInPandas(solved, "ad_id string, neighbour string, similarity double")


def ease_of(acted: pd.DataFrame, *, most: int, ads: int) -> Iterator[pd.DataFrame]:
    """ad_id, neighbour, similarity, ad by ad: of user_id, ad_id in any order. Holds one dense matrix of the ads."""
    from scipy.linalg import inv  # type: ignore[import-untyped]
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

    counts = acted["ad_id"].value_counts().rename_axis("ad_id").reset_index(name="users")
    kept = counts.sort_values(["users", "ad_id"], ascending=[False, True]).head(ads)
    names = pd.Index(np.sort(kept["ad_id"].to_numpy(dtype=object)))
    place = names.get_indexer(acted["ad_id"])
    user, _ = pd.factorize(acted["user_id"])
    known = place >= 0
    table = csr_array((np.ones(known.sum()), (user[known], place[known])), shape=(user.max(initial=-1) + 1, len(names)))
    together = csr_array(table.T @ table)
    dense = together.toarray(order="F")  # as LAPACK reads it, so that it is inverted in place
    np.einsum("ii->i", dense)[:] += PENALTY
    inverse = inv(dense, overwrite_a=True, check_finite=False)
    diagonal = np.diag(inverse).copy()
    for number, ad in enumerate(names):
        row = slice(together.indptr[number], together.indptr[number + 1])
        other, users = together.indices[row], together.data[row]
        other = other[(users >= FEWEST_TOGETHER) & (other != number)]
        weights = np.round(-inverse[number, other] / diagonal[other], DECIMALS)
        nearest = np.lexsort((other, weights))[::-1][:most]
        nearest = nearest[weights[nearest] > 0]
        yield pd.DataFrame({"ad_id": ad, "neighbour": names[other[nearest]], "similarity": weights[nearest]})
