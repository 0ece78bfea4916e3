"""How good each ad was on a day: what people made of it, and whether its text is in order.

    quality = text_quality (ctr / mean ctr)^1/2 (cvr / mean cvr)^1/2 (negative_rate / mean negative_rate)^-1/2

Each rate is shrunk to its mean over all ads of the day, (events + 10 mean) / (chances + 10), so an ad that was hardly
shown has the quality of its text, and an average ad with a text in order has 1. The formula is this project's own: the
geometric mean keeps it between ads of different price, and a factor is 1 where the day has none of its events.
"""

from __future__ import annotations

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

PRIOR = 10.0  # chances' worth of belief in the mean
LONGEST_TITLE = 90  # characters


def ad_quality(outcomes: DataFrame, negatives: DataFrame, ads: DataFrame) -> DataFrame:
    """One row per ad shown: ad_id, impressions, clicks, conversions, negatives, ctr, cvr, negative_rate, text_quality,
    quality.

    outcomes   one row an impression: ad_id, clicked, conversions
    negatives  ad_id of each event of negative weight on the day (hide, report, bounce)
    ads        ad_id (unique), title, description, category; an ad without a record has text_quality 0
    """
    shown = outcomes.groupBy("ad_id").agg(
        F.count("*").alias("impressions"),
        F.count_if("clicked").alias("clicks"),
        F.sum("conversions").cast("bigint").alias("conversions"),
    )
    disliked = negatives.groupBy("ad_id").agg(F.count("*").alias("negatives"))
    counted = shown.join(disliked, on="ad_id", how="left").withColumn("negatives", F.coalesce("negatives", F.lit(0)))
    means = counted.agg(
        F.try_divide(F.sum("clicks"), F.sum("impressions")).alias("m_ctr"),
        F.try_divide(F.sum("conversions"), F.sum("clicks")).alias("m_cvr"),
        F.try_divide(F.sum("negatives"), F.sum("impressions")).alias("m_negative"),
    )
    texts = ads.select("ad_id", text_quality().alias("text_quality"))
    rated = (
        counted.crossJoin(F.broadcast(means))
        .join(texts, on="ad_id", how="left")
        .withColumns(
            {
                "ctr": _shrunk("clicks", "impressions", "m_ctr"),
                "cvr": _shrunk("conversions", "clicks", "m_cvr"),
                "negative_rate": _shrunk("negatives", "impressions", "m_negative"),
                "text_quality": F.coalesce("text_quality", F.lit(0.0)),
            }
        )
    )
    good, sold, bad = _relative("ctr", "m_ctr"), _relative("cvr", "m_cvr"), _relative("negative_rate", "m_negative")
    parts = ["ctr", "cvr", "negative_rate", "text_quality"]
    return rated.select(
        "ad_id",
        "impressions",
        "clicks",
        "conversions",
        "negatives",
        *parts,
        (F.col("text_quality") * F.sqrt(good) * F.sqrt(sold) / F.sqrt(bad)).alias("quality"),
    )


def text_quality() -> Column:
    """Share of five checks that hold: a title, a description, a title that fits, does not shout, and a category."""
    title = F.coalesce(F.trim("title"), F.lit(""))
    shouts = title.rlike(r"[!?！？]{2}|\${2}") | (title.rlike(r"[A-Z]{4}") & ~title.rlike(r"[a-z]"))
    checks = [
        title != "",
        F.coalesce(F.trim("description"), F.lit("")) != "",
        (title != "") & (F.char_length(title) <= LONGEST_TITLE),
        (title != "") & ~shouts,
        F.coalesce(F.size("category") > 0, F.lit(False)),
    ]
    total = checks[0].cast("double")
    for check in checks[1:]:
        total = total + check.cast("double")
    return total / F.lit(float(len(checks)))


def _shrunk(events: str, chances: str, mean: str) -> Column:
    """NULL where the day has no chance at all."""
    return (F.col(events) + PRIOR * F.col(mean)) / (F.col(chances) + PRIOR)


def _relative(rate: str, mean: str) -> Column:
    return F.when(F.col(mean) > 0, F.col(rate) / F.col(mean)).otherwise(F.lit(1.0))
