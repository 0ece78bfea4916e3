"""Registers an encoder as a version of llmrec_ad_matcher, with centre and keyword frequencies from the given ads."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmrec_spark.command_line import exit_with, parser


def main() -> None:
    """Writes the model folder, registers it and sets an alias."""
    options = parser(__doc__)
    which = options.add_mutually_exclusive_group()
    which.add_argument("--embedded", choices=("minilm", "multilingual"), help="an encoder of the extra `embedded`")
    which.add_argument("--encoder", help="a Hugging Face folder or hub id, read as encoding.settings say")
    options.add_argument("--folder", help="keep the model folder here too; must not exist")
    options.add_argument("--alias", help="to set, empty for none; champion of the first version, else challenger")
    arguments = options.parse_args()

    from llmrec_spark.config_files import load_config
    from llmrec_spark.model_registration import encoder_folder, write_model_of_ads
    from llmrec_spark.registry import NAME, aliases_of_new, import_mlflow_beside, register_model
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    import_mlflow_beside()
    name = arguments.embedded or arguments.encoder or config.encoding.encoder
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor(1) as beside:  # while Spark starts
        restored = beside.submit(encoder_folder, name, config.encoding.settings, Path(scratch))
        storage = Storage(spark_session("llmrec_spark register_model"), config.tables)
        encoder, settings = restored.result()
        folder, aliases = Path(arguments.folder or f"{scratch}/model"), aliases_of_new(config.mlflow, arguments.alias)
        facts = write_model_of_ads(storage, config, encoder=encoder, settings=settings, name=name, folder=folder)
        version = register_model(folder, config.mlflow, facts, aliases=aliases)
    print(f"registered {NAME} version {version} ({name}, {facts['ads']} ads), alias {' '.join(aliases) or 'none'}")


if __name__ == "__main__":
    exit_with(main)
