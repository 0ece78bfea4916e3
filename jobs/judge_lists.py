"""Prints how well the lists shown on a day were ordered by its published run: nDCG@k and group AUC by scorer."""

from llmrec_spark.command_line import add_days, days, exit_with, parser


def main() -> None:
    """Judges each day asked for: lists with clicked and unclicked ads, of users met before the day."""
    options = parser(__doc__)
    add_days(options)
    options.add_argument("--k", type=int, default=10, help="cut-off of nDCG (10)")
    arguments = options.parse_args()
    wanted = days(arguments)

    from llmrec_spark.config_files import load_config
    from llmrec_spark.list_evaluation import judge_day
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    storage = Storage(spark_session("llmrec_spark judge_lists"), config.tables)
    for day in wanted:
        judge_day(storage, config, day, k=arguments.k)


if __name__ == "__main__":
    exit_with(main)
