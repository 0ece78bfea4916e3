"""Which examples train, validate and test: by their day, or by a hash of their user."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from llmrec_spark.training_config import FOLDS, TrainingConfig


def with_folds(rows: DataFrame) -> DataFrame:
    """`rows` with fold and inner_fold of their user_id: int(md5(user_id), 16) // 5 % 5 and // 25 % 5."""
    digest = F.md5("user_id")
    rest = F.lit(0).cast("bigint")
    for start in range(1, 33, 8):  # the number does not fit a bigint, its remainder by 125 does
        part = F.conv(F.substring(digest, start, 8), 16, 10).cast("bigint")
        rest = (rest * 2**32 + part) % FOLDS**3
    return rows.withColumns(
        {
            "fold": F.floor(rest % FOLDS**2 / FOLDS).cast("int"),
            "inner_fold": F.floor(rest / FOLDS**2).cast("int"),
        }
    )


def with_split(rows: DataFrame, *, as_of: date, training: TrainingConfig) -> DataFrame:
    """The rows whose user has a split on their run_date, with split, fold and inner_fold.

    `as_of` is the date that the model is trained at.
    """
    split = F.lit(None).cast("string")
    for name, (first, end) in training.windows(as_of).items():
        is_of_split = (F.col("run_date") >= F.lit(first)) & (F.col("run_date") < F.lit(end))
        if training.split == "users":
            is_of_split &= _split_of_user(training) == name
        split = F.when(is_of_split, name).otherwise(split)
    return with_folds(rows).withColumn("split", split).where("split IS NOT NULL")


def of_training_users(folded: DataFrame, training: TrainingConfig) -> DataFrame:
    """The rows of users who may be counted in a statistic: all, or with `split: users` those who train."""
    return folded if training.split == "time" else folded.where(_split_of_user(training) == "train")


def _split_of_user(training: TrainingConfig) -> Column:
    split = F.when(F.col("fold") == training.test_fold, "test")
    if training.validation_fold is not None:
        split = split.when(F.col("inner_fold") == training.validation_fold, "validation")
    return split.otherwise("train")
