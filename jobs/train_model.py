"""Trains a model on the clicks of the days before --date and registers it as challenger; see --help."""

import tempfile
from pathlib import Path

from llmrec_spark.command_line import add_search, day, exit_with, parser, search_of


def main() -> None:
    """Learns from the log, judges on lists held back, writes a model card, registers the version."""
    options = parser(__doc__)
    options.add_argument("--date", type=day, required=True, help="learn from days before this one, UTC")
    options.add_argument("--until", type=day, help="clicks and conversions are known until this day, default --date")
    options.add_argument("--model", help="whose encoder to keep and to be compared with, instead of mlflow.model")
    options.add_argument("--folder", help="keep the model folder here too; must not exist")
    options.add_argument("--alias", default="challenger", help="alias to set; empty sets none")
    add_search(options)
    options.add_argument("--ablate", action="store_true", help="train without each part too, and say what it brings")
    arguments = options.parse_args()
    search = search_of(arguments)

    from llmrec_spark.config_files import load_config
    from llmrec_spark.registry import import_mlflow_beside, resolve_model
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage
    from llmrec_spark.training_runs import train_and_register

    config = load_config(arguments.config, arguments.overrides)
    import_mlflow_beside()
    storage = Storage(spark_session("llmrec_spark train_model"), config.tables)
    base = resolve_model(arguments.model or config.mlflow.model, config.mlflow)
    with tempfile.TemporaryDirectory() as scratch:
        folder, aliases = Path(arguments.folder or Path(scratch) / "model"), tuple(filter(None, [arguments.alias]))
        asked = {"as_of": arguments.date, "until": arguments.until, "search": search, "ablates": arguments.ablate}
        train_and_register(storage, config, base, **asked, scratch=Path(scratch), folder=folder, aliases=aliases)


if __name__ == "__main__":
    exit_with(main)
