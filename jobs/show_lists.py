"""Prints published lists with their reasons in words, for the given users or three examples."""

from llmrec_spark.command_line import exit_with, parser


def main() -> None:
    """Prints lists of one day, then where the tables are and what to try next."""
    options = parser(__doc__)
    options.add_argument("--date", required=True, help="a published day, YYYY-MM-DD")
    options.add_argument("--user", action="append", default=[], help="a user_id; repeatable")
    options.add_argument("--length", type=int, default=5, help="ads shown of each list (5)")
    arguments = options.parse_args()

    from datetime import date

    from llmrec_spark.config import load_config
    from llmrec_spark.explanations import show_lists
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    storage = Storage(spark_session("llmrec_spark show_lists"), config.tables)
    day = date.fromisoformat(arguments.date)
    show_lists(storage, config, day, users=arguments.user, length=arguments.length)
    where = config.tables.root or config.tables.catalog
    print(f"\nTables: {where} (recommendations, rankings, matches, runs, ...). Try next:")
    print(f"  .venv/bin/python jobs/query.py \"SELECT * FROM delta_scan('{where}/recommendations') LIMIT 5\"")
    print(f"  make ui    # MLflow at {config.mlflow.tracking_uri}")


if __name__ == "__main__":
    exit_with(main)
