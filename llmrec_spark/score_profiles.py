"""What is kept of a run to compare later days with: figures of what it read and made, and samples of its scores.

Every stage gives name, value, n (rows behind it), sample (empty but for scores): rows of `score_profiles`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.events import midnight
from llmrec_spark.matches import significant

SAMPLED = ("score", "match", "lift", "p_click")
SURE = 1_000  # rows looked at beyond twice those that are sampled


def log_figures(
    events: DataFrame, *, before: date, types: Sequence[str], filled: Mapping[str, Sequence[str]]
) -> DataFrame:
    """Of the 24 hours before a day: rows.events, rows.events.<type> of `types`, null.<column>.<type> of `filled`.

    filled: column of events -> the types that may have it; the figure is the share of a type's rows without it.
    """
    of_day = events.where(
        (F.col("event_ts") >= midnight(before - timedelta(days=1))) & (F.col("event_ts") < midnight(before))
    )
    counts = {f"events.{kind}": F.count_if(F.col("event_type") == kind) for kind in types}
    figures = [_figure(f"rows.{name}", count, count) for name, count in {"events": F.count("*"), **counts}.items()]
    for column, kinds in filled.items():
        for kind in kinds:
            figures.append(_share(f"null.{column}.{kind}", F.col(column).isNull(), F.col("event_type") == kind))
    return _rows(of_day, figures)


def ad_figures(live: DataFrame, met: DataFrame, *, fields: Sequence[str]) -> DataFrame:
    """Of the live ads: new.ads, the share that is not in `met`, and null.<field>, the share without any text in it.

    live: ad_id (unique) and `fields`, a string or a list each; met: ad_id, unique
    """
    kinds = dict(live.dtypes)
    texts = {name: F.concat_ws("", name) if kinds[name] == "array<string>" else F.col(name) for name in fields}
    marked = live.join(met.select("ad_id", F.lit(True).alias("is_met")), on="ad_id", how="left")
    every = F.lit(True)
    without = [_share(f"null.{name}", F.coalesce(F.trim(text), F.lit("")) == "", every) for name, text in texts.items()]
    return _rows(marked, [_share("new.ads", F.col("is_met").isNull(), every), *without])


def list_figures(rankings: DataFrame, met: DataFrame) -> DataFrame:
    """Of a run's lists: new.users, the share whose user is not in `met`; top.ad, that of the commonest first ad.

    rankings: user_id, rank, ad_id, unique by user and rank; met: user_id, unique
    """
    first = rankings.where(F.col("rank") == 1).join(
        met.select("user_id", F.lit(True).alias("is_met")), on="user_id", how="left"
    )
    by_ad = first.groupBy("ad_id").agg(F.count("*").alias("lists"), F.count_if(F.col("is_met").isNull()).alias("new"))
    lists = F.coalesce(F.sum("lists"), F.lit(0))
    figures = [
        _figure("new.users", F.try_divide(F.sum("new"), lists), lists),
        _figure("top.ad", F.try_divide(F.max("lists"), lists), lists),
    ]
    return _rows(by_ad, figures)


def score_samples(rankings: DataFrame, *, rows: int) -> DataFrame:
    """values.<column> of each of SAMPLED that has values: of the `rows` rows with the smallest hash, ascending.

    NULL and infinite values are left out, and do not take the place of others. The hash is of user and ad, so nearly
    the same pairs are drawn from day to day. value is the mean of the sample; every number has 6 significant digits.
    """
    place = F.xxhash64("user_id", "ad_id")
    share_below = place / F.lit(2.0**64) + 0.5  # of all hashes
    is_finite = {name: ~F.isnan(name) & (F.abs(name) < F.lit(float("inf"))) for name in SAMPLED}
    known = rankings.agg(*[F.count_if(is_finite[name]).alias(f"n_{name}") for name in SAMPLED])
    drawn = []
    for name in SAMPLED:
        value = significant(F.col(name))
        is_near = (
            share_below * F.col(f"n_{name}") <= 2.0 * rows + SURE
        )  # about so many rows, `rows` of them for certain
        pair = F.when(is_finite[name] & is_near, F.struct(place.alias("place"), value.alias("value")))
        first = F.slice(F.sort_array(F.collect_list(pair)), 1, rows)  # equal hashes in order of value: equal samples
        drawn.append(F.sort_array(first["value"]).alias(name))
    samples = rankings.crossJoin(F.broadcast(known)).agg(*drawn)
    figures = []
    for name in SAMPLED:
        total = F.aggregate(name, F.lit(0.0), lambda so_far, one: so_far + one)
        figures.append(
            _figure(f"values.{name}", significant(F.try_divide(total, F.size(name))), F.size(name), F.col(name))
        )
    return samples.select(F.inline(F.array(*figures))).where("n > 0")


def _share(name: str, has_it: Column, among: Column) -> Column:
    n = F.count_if(among)
    return _figure(name, F.try_divide(F.count_if(among & has_it), n), n)


def _figure(name: str, value: Column, n: Column, sample: Column | None = None) -> Column:
    return F.struct(
        F.lit(name).alias("name"),
        value.cast("double").alias("value"),
        n.cast("bigint").alias("n"),
        (F.array().cast("array<double>") if sample is None else sample).alias("sample"),
    )


def _rows(table: DataFrame, figures: Sequence[Column]) -> DataFrame:
    """Aggregates of a table, one row each."""
    return table.agg(F.array(*figures).alias("figures")).select(F.inline("figures"))
