"""Makes a challenger the champion where it is not worse on the gates of `promotion:`, or rolls back; see --help."""

from llmrec_spark.command_line import day, exit_with, parser


def main() -> None:
    """Prints every gate and moves the alias `champion`; exits with 77, and changes nothing, where one forbids it."""
    options = parser(__doc__)
    options.add_argument("--date", type=day, help="the day whose evaluation decides; without it the newest of both")
    options.add_argument("--model", help="models:/name@alias or models:/name/3; without it the alias `challenger`")
    options.add_argument("--force", action="store_true", help="promote whatever the gates say")
    options.add_argument("--rollback", action="store_true", help="the champion before is champion again; no gates")
    arguments = options.parse_args()
    if arguments.rollback and (arguments.date or arguments.model or arguments.force):
        options.error("--rollback goes with --config and --set only")

    from llmrec_spark.config_files import load_config
    from llmrec_spark.model_promotion import promote_model, roll_back_model
    from llmrec_spark.model_versions import CHALLENGER
    from llmrec_spark.registry import NAME, open_contest
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    if arguments.rollback:
        roll_back_model(config)
        return
    contest = open_contest(arguments.model or f"models:/{NAME}@{CHALLENGER}", config.mlflow)
    storage = Storage(spark_session("llmrec_spark promote_model"), config.tables)
    promote_model(storage, config, contest, day=arguments.date, force=arguments.force, config_file=arguments.config)


if __name__ == "__main__":
    exit_with(main)
