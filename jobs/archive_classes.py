"""Uses Spark and Delta as other jobs do, on two rows: make install lets Java archive the classes that are loaded."""

import tempfile

from llmrec_spark.command_line import exit_with


def main() -> None:
    """Writes, merges, deletes and reads a table that is gone afterwards."""
    from pyspark.sql import functions as F

    from llmrec_spark.session import spark_session

    spark = spark_session("llmrec_spark archive_classes")
    with tempfile.TemporaryDirectory() as folder:
        table = f"delta.`{folder}`"
        rows = spark.createDataFrame([("a", [1.0]), ("b", [2.0])], "id string, numbers array<double>")
        rows.write.format("delta").partitionBy("id").save(folder)
        rows.writeTo(table).overwrite(F.expr("id = 'a' OR id = 'b'"))
        rows.createOrReplaceTempView("new")
        spark.sql(f"MERGE INTO {table} AS old USING new ON old.id = new.id WHEN NOT MATCHED THEN INSERT *")
        spark.sql(f"DELETE FROM {table} WHERE id = 'b'")
        read = spark.table(table).mapInPandas(lambda batches: batches, rows.schema).persist()  # type: ignore[arg-type]
        joined = read.join(rows.select("id", F.explode("numbers").alias("number")), on="id", how="inner")
        joined.groupBy("id").agg(F.sort_array(F.collect_list("number")), F.count_distinct("number")).collect()
        joined.orderBy("number").limit(1).toPandas()
        spark.sql(f"DESCRIBE HISTORY {table}").collect()


if __name__ == "__main__":
    exit_with(main)
