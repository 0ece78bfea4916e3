"""Workers of spark-defaults.conf are forked from a process that has done their imports."""

import pandas as pd


def test_workers_are_forked_from_a_process_that_has_loaded_torch(spark):
    def parent(batches):
        import os
        from pathlib import Path

        place = Path(f"/proc/{os.getppid()}")
        for _ in batches:
            command, files = (place / "cmdline").read_text(), (place / "maps").read_text()
            yield pd.DataFrame({"command": [command.replace("\0", " ")], "has_torch": ["libtorch" in files]})

    [found] = spark.range(1).mapInPandas(parent, "command string, has_torch boolean").collect()
    assert "-m llmrec_spark.worker_daemon" in found.command
    assert found.has_torch
