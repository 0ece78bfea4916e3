"""Lets the people of the bundled simulator answer a published day: what they see, click, buy and hide joins the log."""

import sys
from functools import partial
from pathlib import Path

from llmrec_spark.command_line import add_days, days, exit_with, parser

SAMPLE = Path(__file__).parents[1] / "data" / "sample"


def main() -> None:
    """Appends to `inputs.events` what happens on each day when its published lists are shown; once per day."""
    options = parser(__doc__)
    add_days(options)
    options.add_argument("--seed", type=int, default=20260301, help="of the simulator, as load_sample had it")
    arguments = options.parse_args()
    wanted = days(arguments)

    sys.path.insert(0, str(SAMPLE))
    import simulator  # type: ignore[import-not-found]

    from llmrec_spark.config_files import load_config
    from llmrec_spark.session import spark_session
    from llmrec_spark.simulation import answer_day
    from llmrec_spark.storage import Storage

    config = load_config(arguments.config, arguments.overrides)
    storage = Storage(spark_session("llmrec_spark simulate_day"), config.tables)
    world = simulator.make_world(simulator.load_ads(SAMPLE / "ads.jsonl"), arguments.seed)
    for day in wanted:
        answer_day(storage, config, day, partial(simulator.answer_log, world, day))


if __name__ == "__main__":
    exit_with(main)
