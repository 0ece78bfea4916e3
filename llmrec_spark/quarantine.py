"""Rows refused: checks mark a row with a reason in `refused`, and every refused row is counted and kept to look at."""

from __future__ import annotations

from collections.abc import Sequence

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as F

REFUSED = "refused"  # the reason, NULL for an accepted row


def refuse_doubles(
    checked: DataFrame, *, key: Sequence[str], order: Sequence[str], among: Column | None = None
) -> DataFrame:
    """`checked` with every row but the first of a key refused as doubled; rows refused before do not count.

    Reads and returns the columns of `checked`. First is the smallest by `order`, so no partitioning can change it.
    `among` restricts it to the rows of a condition.
    """
    is_candidate = F.col(REFUSED).isNull() & (F.lit(True) if among is None else among)
    number = F.row_number().over(Window.partitionBy(*key, is_candidate).orderBy(*order))
    reason = F.when(is_candidate & (number > 1), F.lit(f"doubled {', '.join(key)}"))
    return checked.withColumn(REFUSED, F.coalesce(REFUSED, reason))


def accepted(checked: DataFrame) -> DataFrame:
    """The rows that no check refused."""
    return checked.where(F.col(REFUSED).isNull()).drop(REFUSED)


def refusals(
    checked: DataFrame, *, table: str, key: Sequence[str], columns: Sequence[str], per_reason: int
) -> DataFrame:
    """At most `per_reason` refused rows of each reason: table, key, reason, user_id, row.

    `row` holds `columns` as JSON. Which rows are kept follows from their content.
    """
    user = F.col("user_id") if "user_id" in checked.columns else F.lit(None).cast("string")
    entry = F.struct(
        F.concat_ws(", ", *[F.coalesce(F.col(name), F.lit("NULL")) for name in key]).alias("key"),
        F.to_json(F.struct(*columns)).alias("row"),
        user.alias("user_id"),
    )
    return (
        checked.where(F.col(REFUSED).isNotNull())
        .select(F.col(REFUSED).alias("reason"), entry.alias("entry"))
        .groupBy("reason")
        .agg(F.min_by("entry", "entry", per_reason).alias("entries"))
        .select("reason", F.explode("entries").alias("entry"))
        .select(F.lit(table).alias("table"), "entry.key", "reason", "entry.user_id", "entry.row")
    )
