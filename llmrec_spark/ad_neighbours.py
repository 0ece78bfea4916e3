"""Which ads the same people act on: the nearest neighbours of each ad by whose history it is in, whatever it says.

co_click   n_ij / sqrt(n_i n_j), n the users with ad i, with j, with both in their history: the cosine of item-based
           collaborative filtering (Sarwar et al., "Item-based collaborative filtering recommendation algorithms",
           2001)
ease       -P_ij / P_jj, P = (X'X + 300 I)^-1 of the users x ads X that says whose history has what: the weights of
           the linear model that tells each ad from the others (Steck, "Embarrassingly shallow autoencoders for
           sparse data", 2019), so an ad is near what goes with it rather than with everything
als        y_i . y_j / |y_i| |y_j|, Y the factors of ads that alternating least squares finds with confidence 41 in what
           is in a history and 1 in what is not (Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback
           datasets", 2008), so ads are near whose users like the same others
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

if TYPE_CHECKING:
    from scipy.sparse import csr_array  # type: ignore[import-untyped]

MOST = 50  # neighbours kept of an ad
FEWEST_TOGETHER = 2  # users with both ads: what one did alone says little, and would tell others of it
USERS = 100_000  # whose histories are counted; pairs that matter stand in many
ADS = 10_000  # of EASE and ALS, those with most users; one worker holds a dense matrix of them for EASE, 800 MB
DECIMALS = 6  # of what a worker finds: the last ones are those of its processor
PENALTY = 300.0  # of EASE, in users
FACTORS, ROUNDS, CONFIDENCE, RIDGE = 64, 10, 40.0, 0.1  # of ALS, as Spark's: rank, maxIter, alpha, regParam
ROWS = 1_024  # of users or ads that ALS solves at once, 32 MB

Similar = Callable[[int, np.ndarray], np.ndarray]  # an ad and others (n,), by number -> how near they are to it (n,)
Learned = Callable[["csr_array", "csr_array"], Similar]  # of who has which ad (U, I), and how many have both (I, I)


def ad_neighbours(histories: DataFrame, *, by: str, most: int = MOST, users: int = USERS, ads: int = ADS) -> DataFrame:
    """The columns of AD_NEIGHBOURS but run_id, nearest first: one row per ad that has a neighbour.

    Reads    user_id and ad_ids (NULL at a search), one row a user
    by       co_click, ease or als
    most     neighbours kept of an ad; of equal ones those with the larger id
    ads      those with most users that ease and als compare; of equal ones those with the smaller id

    Of more than `users` users with an ad, those with the smallest md5 of their id are counted. Two ads are neighbours
    that FEWEST_TOGETHER users have, and whose similarity is above 0.
    """
    with_ad = histories.where(F.exists("ad_ids", lambda ad: ad.isNotNull()))
    counted = with_ad.orderBy(F.md5("user_id"), "user_id").limit(users)
    acted = counted.select("user_id", F.explode(F.array_distinct("ad_ids")).alias("ad_id")).where("ad_id IS NOT NULL")
    near = cosines(acted) if by == "co_click" else by_one_worker(acted, SIMILAR[by], most=most, ads=ads)
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


def by_one_worker(acted: DataFrame, similar: Learned, *, most: int, ads: int) -> DataFrame:
    """The same of the `most` nearest of each of the ads with most users."""

    def solved(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        given = list(batches)
        if given:
            yield from nearest(*users_by_ads(pd.concat(given), ads=ads), similar, most=most)

    columns = acted.select("user_id", "ad_id").coalesce(1)
    return columns.mapInPandas(solved, "ad_id string, neighbour string, similarity double")


def users_by_ads(acted: pd.DataFrame, *, ads: int) -> tuple[pd.Index, csr_array]:
    """The `ads` with most users in order of their id, and whose history has which, 1 or 0: (users, ads)."""
    from scipy.sparse import csr_array

    counts = acted["ad_id"].value_counts().rename_axis("ad_id").reset_index(name="users")
    kept = counts.sort_values(["users", "ad_id"], ascending=[False, True]).head(ads)
    names = pd.Index(np.sort(kept["ad_id"].to_numpy(dtype=object)))
    place, (user, users) = names.get_indexer(acted["ad_id"]), pd.factorize(acted["user_id"], sort=True)
    known = place >= 0
    at = user[known].astype(np.int32), place[known].astype(np.int32)  # as are the indices of what is made of it
    ones = np.ones(known.sum(), dtype=np.float32)  # counts of USERS are exact in it
    return names, csr_array((ones, at), shape=(len(users), len(names)))


def nearest(names: pd.Index, table: csr_array, similar: Learned, *, most: int) -> Iterator[pd.DataFrame]:
    """ad_id, neighbour, similarity, ad by ad."""
    together = (table.T @ table).tocsr()
    similarity = similar(table, together)
    for number, ad in enumerate(names):
        row = slice(together.indptr[number], together.indptr[number + 1])
        other, users = together.indices[row], together.data[row]
        other = other[(users >= FEWEST_TOGETHER) & (other != number)]
        near = np.round(similarity(number, other), DECIMALS)
        kept = np.lexsort((other, near))[::-1][:most]
        kept = kept[near[kept] > 0]
        yield pd.DataFrame({"ad_id": ad, "neighbour": names[other[kept]], "similarity": near[kept]})


def ease_weights(table: csr_array, together: csr_array) -> Similar:
    """The weights by ease; one dense matrix of the ads is inverted in place."""
    from scipy.linalg import inv  # type: ignore[import-untyped]

    gram = together.toarray(order="F").astype(np.float64)  # as LAPACK reads it
    np.einsum("ii->i", gram)[:] += PENALTY
    inverse = inv(gram, overwrite_a=True, check_finite=False)
    diagonal = np.diag(inverse).copy()
    return lambda ad, others: -inverse[ad, others] / diagonal[others]


def als_cosines(table: csr_array, together: csr_array) -> Similar:
    """The cosines by als."""
    of_ads = np.random.default_rng(1).normal(0.0, FACTORS**-0.5, (table.shape[1], FACTORS))
    by_ad = table.T.tocsr()
    for _ in range(ROUNDS):
        of_ads = least_squares(by_ad, least_squares(table, of_ads))
    unit = of_ads / np.linalg.norm(of_ads, axis=1, keepdims=True)
    return lambda ad, others: unit[others] @ unit[ad]


def least_squares(table: csr_array, factors: np.ndarray) -> np.ndarray:
    """(n, FACTORS) that fit 1 where a row of table (n, m) has one, 0 where not, given factors (m, FACTORS).

    Row u, of n_u ones C_u, solves (Y'Y + CONFIDENCE Y'C_u Y + RIDGE max(n_u, 1) I) x = (1 + CONFIDENCE) Y'C_u 1.
    """
    of_all, found = factors.T @ factors, np.empty((table.shape[0], FACTORS))
    for start in range(0, len(found), ROWS):
        rows = table[start : start + ROWS]
        counts = np.diff(rows.indptr)
        left = np.stack([factors[one].T @ factors[one] for one in np.split(rows.indices, rows.indptr[1:-1])])
        left = of_all + CONFIDENCE * left + RIDGE * np.maximum(counts, 1)[:, None, None] * np.eye(FACTORS)
        right = (1.0 + CONFIDENCE) * (rows @ factors)
        found[start : start + ROWS] = np.linalg.solve(left, right[:, :, None])[:, :, 0]
    return found


SIMILAR = {"ease": ease_weights, "als": als_cosines}
