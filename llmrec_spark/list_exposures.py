"""How the places of the lists fall on the ads: coverage, Gini of exposure, share of each group of ads.

None of these is a sum over users. The places that each ad has, as it is and in every replicate of the bootstrap, are,
so they are added up by ad, in Spark, and the table of (ads, 1 + replicates) that comes out is read by one task: it
grows with the ads, not with the users.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.bootstrap import INTERVALS, Resampling, percentiles, resampled_sums
from llmrec_spark.metrics import gini, random_gini


def ad_slices(ads: DataFrame, *, columns: Sequence[str]) -> DataFrame:
    """slice (column=value), ad_id: every value of these columns of `ads`; each one of a list, none where it is NULL."""
    none = ads.select(F.lit(None).cast("string").alias("slice"), "ad_id").limit(0)
    found = [none]
    for name in columns:
        value = F.col(f"`{name}`")
        several = value if ads.schema[name].dataType.typeName() == "array" else F.array(value)
        each = F.explode(F.array_distinct(several.cast("array<string>"))).alias("value")
        named = F.concat(F.lit(f"{name}="), "value").alias("slice")
        found.append(ads.select("ad_id", each).where(F.col("value").isNotNull()).select(named, "ad_id"))
    return reduce(DataFrame.unionByName, found)


def exposure_intervals(tops: DataFrame, groups: pd.DataFrame, resampling: Resampling, *, live: pd.Index) -> DataFrame:
    """slice, scorer, metric, value, low, high, n (places): coverage and gini of `all`, exposure_share of each group.

    tops    user_id, scorer, ad_id: a row is a place in a list
    groups  slice (column=value), ad_id: an ad may be in several, or in none
    live    ad_id of the ads that could be shown; a place of any other is left out

    coverage        share of the live ads with a place. It has no interval: a replicate leaves out a third of the
                    users, and with them ads, so that all replicates lie below the value.
    gini            of the places of the live ads. To count users again makes exposures less equal too, so the
                    replicates are moved to have the value as their mean.
    exposure_share  the group's part of all places
    """

    def finish(rows: pd.DataFrame) -> pd.DataFrame:
        place = live.get_indexer(rows["slice"])
        known = np.flatnonzero(place >= 0)
        exposure = np.zeros((len(live), 1 + resampling.replicates))
        for row in known:
            exposure[place[row]] += np.frombuffer(rows["sums"].iloc[row])
        total = exposure.sum(axis=0)
        unequal = np.array([gini(one) for one in exposure.T])
        unequal[1:] += unequal[0] - np.nanmean(unequal[1:]) if total[0] else 0.0
        with np.errstate(invalid="ignore", divide="ignore"):
            shares = {name: exposure[ads].sum(axis=0) / total for name, ads in members.items()}
        table = np.stack([unequal, *shares.values()], axis=1)
        low, high = percentiles(table[1:])
        found = pd.DataFrame({"value": table[0], "low": np.clip(low, 0.0, 1.0), "high": np.clip(high, 0.0, 1.0)})
        covered = pd.DataFrame({"value": [float((exposure[:, 0] > 0).mean())]})
        found = pd.concat([covered, found], ignore_index=True).map(lambda one: float(f"{one:.9g}"))
        found.insert(0, "metric", ["coverage", "gini", *["exposure_share"] * len(shares)])
        found.insert(0, "scorer", rows["scorer"].iloc[0])
        found.insert(0, "slice", ["all", "all", *shares])
        return found.assign(n=int(total[0]))

    members = {str(name): live.get_indexer(of_group) for name, of_group in groups.groupby("slice")["ad_id"]}
    members = {name: places[places >= 0] for name, places in members.items()}
    places = tops.select("user_id", F.col("ad_id").alias("slice"), "scorer", F.array(F.lit(1.0)).alias("sums"))
    by_ad = places.repartition("slice").sortWithinPartitions("slice")  # one task adds up all places of an ad
    found = resampled_sums(by_ad, resampling).groupBy("scorer").applyInPandas(finish, INTERVALS)
    no_number = F.lit(None).cast("double")
    return found.withColumns({name: F.nanvl(name, no_number) for name in ("value", "low", "high")})


def expected_exposures(lengths: pd.DataFrame, groups: pd.DataFrame, ads: pd.DataFrame) -> pd.DataFrame:
    """The same columns without an interval: one list of popular ads for everybody, and the expectation at random.

    lengths  length, lists: how many lists have it; ads: ad_id, is_popular of the live ads, unique
    """
    length, lists = lengths["length"].to_numpy(), lengths["lists"].to_numpy()
    places, popular_places = int(length @ lists), int(ads["is_popular"].sum() * lists.sum())
    live, popular = len(ads), int(ads["is_popular"].sum())
    shares = groups.merge(ads, on="ad_id").groupby("slice")["is_popular"].agg(["sum", "count"])
    with np.errstate(divide="ignore"):
        missed = np.exp(np.log1p(-np.minimum(length, live) / live) @ lists)
    rows = [
        ("all", "popularity", "coverage", popular / live, popular_places),
        ("all", "random", "coverage", 1.0 - missed, places),
        ("all", "popularity", "gini", gini(ads["is_popular"].to_numpy()), popular_places),
        ("all", "random", "gini", random_gini(length, lists, live), places),
    ]
    for name, row in shares.iterrows():
        rows.append((str(name), "popularity", "exposure_share", row["sum"] / popular, popular_places))
        rows.append((str(name), "random", "exposure_share", row["count"] / live, places))
    found = pd.DataFrame(rows, columns=["slice", "scorer", "metric", "value", "n"])
    return found.assign(value=[float(f"{one:.9g}") for one in found["value"]], low=np.nan, high=np.nan)
