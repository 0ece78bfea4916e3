"""Intervals of everything that is a ratio of sums over users: a Poisson bootstrap over users, in one pass in Spark.

A replicate counts each user Poisson(1) times (Chamandy et al., "Estimating uncertainty for massive data streams",
2012). How often follows from a hash of the user's id and the seed, so that all metrics, scorers and slices share their
replicates, which pairs differences, and no partitioning can change a result.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import exp, factorial

import numpy as np
import pandas as pd
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

LEVELS = (0.025, 0.975)
LANES = 4  # replicates drawn from one 64-bit word
INTERVALS = "slice string, scorer string, metric string, value double, low double, high double, n bigint"


@dataclass(frozen=True)
class Resampling:
    """How often to resample, and which replicates: everything of one evaluation shares them."""

    replicates: int
    seed: int


def poisson_table() -> np.ndarray:
    """(65536,) how often a user counts, by a uniform 16-bit number: Poisson(1), its inverse distribution function."""
    chances = np.array([exp(-1.0) / factorial(count) for count in range(16)])
    edges = np.round(np.cumsum(chances) * 65_536)
    return np.searchsorted(edges, np.arange(65_536), side="right").astype(np.float64)


def user_weights(hashes: np.ndarray, replicates: int, table: np.ndarray) -> np.ndarray:
    """(U,) 64-bit hashes -> (1 + replicates, U): ones for the estimate itself, then how often each replicate counts.

    The words come from SplitMix64 (Steele et al., OOPSLA 2014), seeded with the hash.
    """
    steps = np.arange(1, -(-replicates // LANES) + 1, dtype=np.uint64)
    word = hashes.astype(np.uint64)[:, None] + steps * np.uint64(0x9E3779B97F4A7C15)  # (U, words), wraps around
    word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    word ^= word >> np.uint64(31)
    drawn = table[np.ascontiguousarray(word).view(np.uint16)[:, :replicates]]
    return np.concatenate([np.ones((1, len(hashes))), drawn.T])


def resampled_sums(user_sums: DataFrame, resampling: Resampling) -> DataFrame:
    """slice, scorer, users, sums: (1 + replicates, C) float64 as binary; several rows of a key, to be added up.

    Reads    user_id, scorer, sums array<double> of one length C, and slice, or slices array<string> where the same
             sums count in several: one row per user, slice and scorer

    users is how many rows have a sum, as (C,) float64.
    """

    def add_up(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        table = poisson_table()
        totals: dict[tuple[str, str], np.ndarray] = {}
        users: dict[tuple[str, str], np.ndarray] = {}
        for batch in batches:
            if not batch.num_rows:
                continue
            sums = batch.column("sums").flatten().to_numpy(zero_copy_only=False).reshape(batch.num_rows, -1)
            hashes, user = np.unique(batch.column("hash").to_numpy(), return_inverse=True)
            weights = user_weights(hashes, resampling.replicates, table)
            slices = batch.column("slices")
            row = np.repeat(np.arange(batch.num_rows), slices.value_lengths().to_numpy())  # of each slice of each row
            scorers = batch.column("scorer").take(pa.array(row))
            keys = pd.DataFrame({"slice": slices.flatten().to_pandas(), "scorer": scorers.to_pandas()})
            for key, places in keys.groupby(["slice", "scorer"], sort=True).indices.items():
                rows = row[places]
                added = weights[:, user[rows]] @ sums[rows]
                totals[key] = totals.get(key, 0.0) + added
                users[key] = users.get(key, 0.0) + (sums[rows] != 0).sum(axis=0)
        found = [(*key, users[key].tobytes(), totals[key].tobytes()) for key in sorted(totals)]
        yield pa.RecordBatch.from_pylist([dict(zip(schema.names, row, strict=True)) for row in found], schema)

    schema = pa.schema([("slice", "string"), ("scorer", "string"), ("users", "binary"), ("sums", "binary")])
    slices = F.array("slice") if "slice" in user_sums.columns else F.col("slices")
    user_hash = F.xxhash64("user_id", F.lit(resampling.seed)).alias("hash")
    hashed = user_sums.select(user_hash, slices.alias("slices"), "scorer", "sums")
    return hashed.mapInArrow(add_up, "slice string, scorer string, users binary, sums binary")


def intervals(
    user_sums: DataFrame,
    resampling: Resampling,
    *,
    ratios: Sequence[str],
    totals: Sequence[str] = (),
    pairs: Sequence[tuple[str, str]] = (),
) -> DataFrame:
    """slice, scorer, metric, value, low, high, n: estimates with 95 % percentile intervals over users.

    Reads    what resampled_sums reads; sums are the numerators of `ratios`, their denominators, `totals`

    A ratio is the sum of its numerators over that of its denominators: NULL where that is 0. n is how many users have
    a denominator, or add to a total. Each pair (a, b) of scorers of a slice gives the difference `a - b`, on common
    replicates. Values have 9 significant digits, so that the order in which sums were added cannot show.
    """

    def finish(rows: pd.DataFrame) -> pd.DataFrame:
        width = 2 * len(ratios) + len(totals)
        replicated: dict[str, np.ndarray] = {}
        counted: dict[str, np.ndarray] = {}
        for scorer, of_scorer in rows.groupby("scorer"):
            summed = np.sum([np.frombuffer(one) for one in of_scorer["sums"]], axis=0).reshape(-1, width)
            users = np.sum([np.frombuffer(one) for one in of_scorer["users"]], axis=0)
            replicated[str(scorer)] = _values(summed, len(ratios))
            counted[str(scorer)] = users[len(ratios) :]
        for one, other in pairs:
            if one in replicated and other in replicated:
                replicated[f"{one} - {other}"] = replicated[one] - replicated[other]
                counted[f"{one} - {other}"] = np.minimum(counted[one], counted[other])
        slice_name = rows["slice"].iloc[0]
        names = [*ratios, *totals]
        found = [_estimates(slice_name, scorer, names, replicated[scorer], counted[scorer]) for scorer in replicated]
        return pd.concat(found, ignore_index=True)

    resampled = resampled_sums(user_sums, resampling)
    found = resampled.groupBy("slice").applyInPandas(finish, INTERVALS)
    no_number = F.lit(None).cast("double")
    return found.withColumns({name: F.nanvl(name, no_number) for name in ("value", "low", "high")})


def _values(summed: np.ndarray, ratios: int) -> np.ndarray:
    """(1 + B, 2 R + totals) sums -> (1 + B, R + totals) ratios and totals."""
    numerators, denominators, totals = np.split(summed, [ratios, 2 * ratios], axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.where(denominators != 0, numerators / denominators, np.nan)
    return np.concatenate([found, totals], axis=1)


def _estimates(
    slice_name: str, scorer: str, names: Sequence[str], replicated: np.ndarray, users: np.ndarray
) -> pd.DataFrame:
    """The rows of one slice and scorer: replicated (1 + B, M), users (M,)."""
    low, high = percentiles(replicated[1:])
    columns = {"value": replicated[0], "low": low, "high": high}
    columns = {name: [float(f"{one:.9g}") for one in values] for name, values in columns.items()}
    frame = pd.DataFrame({"slice": slice_name, "scorer": scorer, "metric": list(names), **columns})
    return frame.assign(n=users.astype(np.int64))


def percentiles(replicates: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, M) -> the lower and the upper end of the 95 % interval, each (M,); NaN where no replicate has a value."""
    low, high = np.full((2, replicates.shape[1]), np.nan)
    known = ~np.isnan(replicates).all(axis=0) if len(replicates) else np.zeros(replicates.shape[1], dtype=bool)
    if known.any():
        low[known], high[known] = np.nanquantile(replicates[:, known], LEVELS, axis=0)
    return low, high
