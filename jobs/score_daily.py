"""Publishes the lists of a day: spark-submit --properties-file conf/spark-defaults.conf jobs/score_daily.py --help."""

from llmrec_spark.command_line import add_days, days, exit_with, parser


def main() -> None:
    """Scores each day asked for, and publishes it unless it is published already or this is a shadow run."""
    options = parser(__doc__)
    add_days(options)
    options.add_argument("--model", help="instead of mlflow.model: models:/name@alias, models:/name/3 or a folder")
    options.add_argument("--force", action="store_true", help="replace a day that is published")
    options.add_argument("--recompute", action="store_true", help="use no table of an earlier try")
    options.add_argument("--shadow", action="store_true", help="everything but publishing")
    options.add_argument("--show", action="store_true", help="print three of the lists, with reasons")
    options.add_argument("--dry-run", action="store_true", help="check config, tables, columns, model; write nothing")
    arguments = options.parse_args()
    wanted = days(arguments)

    from llmrec_spark.config_files import load_config
    from llmrec_spark.daily_runs import plan, publish_days
    from llmrec_spark.registry import import_mlflow_beside, resolve_model
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    import_mlflow_beside()
    storage = Storage(spark_session("llmrec_spark score_daily"), config.tables)

    uri = arguments.model or config.mlflow.model
    if arguments.dry_run:
        plan(storage, config, wanted, resolve_model(uri, config.mlflow))
    else:
        flags = {name: getattr(arguments, name) for name in ("force", "recompute", "shadow", "show")}
        publish_days(storage, config, wanted, lambda: resolve_model(uri, config.mlflow), **flags)


if __name__ == "__main__":
    exit_with(main)
