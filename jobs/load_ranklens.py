"""Writes RankLens (people, lists of 24 films, clicks) to Delta as events, ads and candidates."""

from pathlib import Path

from llmrec_spark.command_line import exit_with, parser


def main() -> None:
    """Reads the folder of --from and writes the tables that `inputs:` of --config names."""
    options = parser(__doc__)
    options.add_argument("--from", dest="folder", required=True, type=Path, help="folder of its Parquet files")
    arguments = options.parse_args()

    from llmrec_spark.config_files import load_config
    from llmrec_spark.ranklens import ranklens_tables
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import write_input

    config = load_config(arguments.config, arguments.overrides)
    spark = spark_session("llmrec_spark load_ranklens")
    for name, rows in ranklens_tables(spark, arguments.folder).items():
        print(f"{name:<12} {write_input(rows, getattr(config.inputs, name)):>9,} rows")


if __name__ == "__main__":
    exit_with(main)
