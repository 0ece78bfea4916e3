"""The invoices of UCI Online Retail as a shop would have them: events and ads, and a count of what is left out."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import NamedTuple

from pyspark.sql import Column, DataFrame, SparkSession
from pyspark.sql import functions as F

from llmrec_spark.errors import DataError
from llmrec_spark.events import midnight

FILE = "online_retail.csv.gz"
COLUMNS = (
    "InvoiceNo string, StockCode string, Description string, Quantity int, InvoiceDate timestamp, UnitPrice double, "
    "CustomerID string, Country string"
)
PRODUCT = r"^\d{5}[A-Z]*$"  # POST, M, D, BANK CHARGES, vouchers and the like are none


class Shop(NamedTuple):
    """Tables of the invoices before a day."""

    events: DataFrame
    ads: DataFrame


def invoices(spark: SparkSession, folder: Path) -> DataFrame:
    """The lines of the file as they are, StockCode in capitals: 85123a and 85123A are one product."""
    file = folder / FILE
    if not file.is_file():
        raise DataError(f"{folder}: lacks {FILE}. Expected the invoices of UCI Online Retail; see README.md.")
    lines = spark.read.csv(str(file.resolve()), header=True, schema=COLUMNS, escape='"', mode="FAILFAST")
    return lines.withColumn("StockCode", F.upper("StockCode"))


def refusals() -> dict[str, Column]:
    """Why a line is not somebody's purchase of a product; of several reasons the first counts."""
    return {
        "cancellation or correction": F.col("InvoiceNo").startswith("C") | (F.col("Quantity") <= 0),
        "no product": ~F.col("StockCode").rlike(PRODUCT),
        "no price": F.col("UnitPrice") <= 0,
        "no customer": F.col("CustomerID").isNull(),
    }


def reason() -> Column:
    """The name of the first refusal, NULL of a purchase."""
    return F.coalesce(*[F.when(is_refused, F.lit(name)) for name, is_refused in refusals().items()])


def refused(lines: DataFrame) -> dict[str, int]:
    """How many lines each reason leaves out, and how many are left, `purchase`."""
    counts = lines.groupBy(F.coalesce(reason(), F.lit("purchase")).alias("reason")).count()
    return {row.reason: row["count"] for row in counts.collect()}


def shop(lines: DataFrame, *, before: date) -> Shop:
    """What was known at `before` 00:00 UTC."""
    known = lines.where(F.col("InvoiceDate") < midnight(before))
    return Shop(purchases(known), products(known))


def purchases(lines: DataFrame) -> DataFrame:
    """One event per product of an invoice, however many lines it fills: type purchase, value in pounds."""
    bought = lines.where(reason().isNull()).groupBy("InvoiceNo", "StockCode")
    return bought.agg(
        F.regexp_replace(F.min("CustomerID"), r"\.0$", "").alias("user_id"),  # an invoice is of one customer
        F.min("InvoiceDate").alias("event_ts"),
        F.sum(F.col("UnitPrice") * F.col("Quantity")).alias("value"),
    ).select(
        F.concat_ws("-", "InvoiceNo", "StockCode").alias("event_id"),
        "user_id",
        F.col("StockCode").alias("ad_id"),
        F.lit("purchase").alias("event_type"),
        "event_ts",
        "value",
    )


def products(lines: DataFrame) -> DataFrame:
    """One ad per product that was sold, to known customers or not: its commonest description, its median price.

    Of descriptions that are equally common the newest is the title.
    """
    sold = lines.where(F.coalesce(reason() == "no customer", F.lit(True)))
    described = F.struct(F.col("count"), F.col("newest"), F.col("Description"))
    titles = (
        sold.where(F.col("Description").isNotNull())
        .groupBy("StockCode", "Description")
        .agg(F.count("*").alias("count"), F.max("InvoiceDate").alias("newest"))
        .groupBy("StockCode")
        .agg(F.max(described)["Description"].alias("title"))
    )
    prices = sold.groupBy("StockCode").agg(F.median("UnitPrice").alias("price"))
    return prices.join(titles, on="StockCode", how="left").select(F.col("StockCode").alias("ad_id"), "title", "price")
