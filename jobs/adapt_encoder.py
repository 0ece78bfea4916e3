"""Adapts the encoder to the clicks of the days before --date and registers a model with it; train_model comes next."""

import tempfile
from pathlib import Path

from llmrec_spark.command_line import day, exit_with, parser


def main() -> None:
    """Learns an adapter, or every weight, from pairs of a behaviour and an ad clicked after it; see `adapter:`."""
    options = parser(__doc__)
    options.add_argument("--date", type=day, required=True, help="learn from days before this one, UTC")
    options.add_argument("--until", type=day, help="count clicks before this day")
    options.add_argument("--model", help="whose encoder to adapt, instead of mlflow.model")
    options.add_argument("--folder", help="keep the model folder here too; must not exist")
    options.add_argument("--alias", default="adapted", help="alias to set; empty sets none")
    arguments = options.parse_args()

    from llmrec_spark.config_files import load_config
    from llmrec_spark.encoder_adaptation import adapt_and_register
    from llmrec_spark.registry import import_mlflow_beside, resolve_model
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    import_mlflow_beside()
    storage = Storage(spark_session("llmrec_spark adapt_encoder"), config.tables)
    base = resolve_model(arguments.model or config.mlflow.model, config.mlflow)
    with tempfile.TemporaryDirectory() as scratch:
        folder, aliases = Path(arguments.folder or Path(scratch) / "model"), tuple(filter(None, [arguments.alias]))
        days = {"as_of": arguments.date, "until": arguments.until}
        adapt_and_register(storage, config, base, **days, scratch=Path(scratch), folder=folder, aliases=aliases)


if __name__ == "__main__":
    exit_with(main)
