"""Writes the bundled sample to Delta as a company would have it: events in two commits, ads, users; dirt included."""

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from llmrec_spark.command_line import exit_with, number, parser

SAMPLE = Path(__file__).parents[1] / "data" / "sample"


def main() -> None:
    """Simulates the log of data/sample and writes the tables that `inputs:` of --config names."""
    options = parser(__doc__)
    options.add_argument("--seed", type=int, default=20260301, help="of the simulator")
    options.add_argument("--users", type=number, metavar="N", help="only the first N of its people")
    arguments = options.parse_args()

    sys.path.insert(0, str(SAMPLE))
    import simulator  # type: ignore[import-not-found]

    from llmrec_spark.config_files import load_config
    from llmrec_spark.session import spark_session
    from llmrec_spark.storage import write_input

    inputs = load_config(arguments.config, arguments.overrides).inputs
    ads = simulator.load_ads(SAMPLE / "ads.jsonl")
    with ThreadPoolExecutor(1) as beside:  # while Spark starts
        simulated = beside.submit(simulator.simulate_log, ads, seed=arguments.seed, users=arguments.users)
        spark = spark_session("llmrec_spark load_sample")
        log = simulated.result()
    parts = [("ads", ads, False), ("users", log.users, False), ("events", log.events, False)]
    for name, rows, append in [*parts, ("events", log.late_events, True)]:
        table = spark.createDataFrame(rows)
        written = write_input(table, getattr(inputs, name), append=append)
        print(f"{name:<7} {written:>9,} rows {'arrived late' * append}")


if __name__ == "__main__":
    exit_with(main)
