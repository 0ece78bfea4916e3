"""Prints published lists with their reasons in words, for the given users or three examples."""

from llmrec_spark.command_line import day, exit_with, parser


def main() -> None:
    """Prints lists of one day, then where the tables are."""
    options = parser(__doc__)
    options.add_argument("--date", type=day, required=True, help="a published day, YYYY-MM-DD")
    options.add_argument("--user", action="append", default=[], help="a user_id; repeatable")
    options.add_argument("--length", type=int, default=5, help="ads shown of each list (5)")
    arguments = options.parse_args()

    from llmrec_spark.config_files import load_config
    from llmrec_spark.explanations import show_published
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    storage = Storage(spark_session("llmrec_spark show_lists"), config.tables)
    show_published(storage, config, arguments.date, users=arguments.user, length=arguments.length)


if __name__ == "__main__":
    exit_with(main)
