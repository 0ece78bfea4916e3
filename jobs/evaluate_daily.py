"""Judges published days by what happened; see --help."""

from llmrec_spark.command_line import add_days, days, exit_with, parser


def main() -> None:
    """Writes `evaluations` for each day asked for, and prints its table."""
    options = parser(__doc__)
    add_days(options)
    options.add_argument("--against", metavar="RUN", help="another run of that day, published or shadow, side by side")
    options.add_argument("--fail-on-alert", action="store_true", help="exit with 79 where a figure left its bounds")
    arguments = options.parse_args()
    wanted = days(arguments)

    from llmrec_spark.config_files import load_config
    from llmrec_spark.evaluation_runs import evaluate_days
    from llmrec_spark.registry import import_mlflow_beside
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    import_mlflow_beside()
    storage = Storage(spark_session("llmrec_spark evaluate_daily"), config.tables)
    evaluate_days(storage, config, wanted, against=arguments.against, fail_on_alert=arguments.fail_on_alert)


if __name__ == "__main__":
    exit_with(main)
