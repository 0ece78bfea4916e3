"""The process that Spark forks Python workers from, with what they all need imported once.

`spark.python.daemon.module` names it. To import torch takes each worker seconds, and Spark ends one that was idle for a
minute. Nothing but imports happens before the fork: no device is touched, and the thread pools of OpenBLAS and Arrow
start anew after one. What was imported is kept out of the garbage collection that a worker does after each task.
"""

import contextlib
import gc
import sys

from pyspark.daemon import manager


def main() -> None:
    """Imports, then serves workers until Spark ends it."""
    with contextlib.redirect_stdout(sys.stderr):  # from stdout Spark reads the daemon's port
        import llmrec_spark.model.taste_scoring  # noqa: F401

    gc.collect()
    gc.freeze()
    manager()


if __name__ == "__main__":
    main()
