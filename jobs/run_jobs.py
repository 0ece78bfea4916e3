"""Runs jobs one after another in one process: spark-submit ... jobs/run_jobs.py score_daily ... then evaluate_daily ...

They share a Spark session, which is that of the first. The first that fails ends them, with its exit code.
"""

import runpy
import sys
from pathlib import Path

from llmrec_spark.command_line import exit_with

JOBS = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
THEN = "then"


def main() -> None:
    """Each job with its own arguments, as if it were submitted alone."""
    from llmrec_spark.errors import UsageError

    asked: list[list[str]] = [[]]
    for argument in sys.argv[1:]:
        asked = [*asked, []] if argument == THEN else [*asked[:-1], [*asked[-1], argument]]
    for job in asked:
        if not job or job[0] not in JOBS:
            found = job[0] if job else "nothing"
            raise UsageError(f"run_jobs: found {found}, expected a job ({', '.join(JOBS)}) and '{THEN}' between two.")
    for name, *arguments in asked:
        file = str(Path(__file__).with_name(f"{name}.py"))
        sys.argv = [file, *arguments]
        try:
            runpy.run_path(file, run_name="__main__")
        except SystemExit as end:
            if end.code:
                raise


if __name__ == "__main__":
    exit_with(main)
