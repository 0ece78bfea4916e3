"""Jobs as a user starts them: spark-submit in a folder of their own, with the checkout's files linked into it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
BIN = Path(sys.executable).parent
LINKED = (
    "conf",
    "jobs",
    "data",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "llmrec_spark",
    "notebooks",
)
EVENTS = (
    "event_id string, user_id string, ad_id string, event_type string, event_ts timestamp, request_id string, "
    "position int, query string"
)
ADS = "ad_id string, title string, description string, tags array<string>, category string, advertiser_id string"


class Workspace:
    """A folder to run jobs in; what they write under local/ stays there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in LINKED:
            if (REPOSITORY / name).exists():
                (folder / name).symlink_to(REPOSITORY / name)
        (folder / "golden.yaml").symlink_to(GOLDEN / "conf.yaml")
        (folder / ".venv").symlink_to(BIN.parent)

    def submit(self, job: str, *arguments: str, conf: dict[str, str] | None = None, env: dict[str, str] | None = None):
        """Runs jobs/<job>.py through spark-submit; returns the finished process, stdout and stderr as text."""
        confs = [part for key, value in (conf or {}).items() for part in ("--conf", f"{key}={value}")]
        command = [BIN / "spark-submit", "--properties-file", "conf/spark-defaults.conf", *confs, f"jobs/{job}.py"]
        return self.run([*map(str, command), *arguments], env=env)

    def run(self, command: list[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs any command in the folder."""
        around = {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONWARNINGS": "ignore", **(env or {})}
        return subprocess.run(
            command, cwd=self.folder, env=around, capture_output=True, text=True, timeout=900, check=False
        )


def golden_rows(name: str) -> list[dict]:
    """The rows of a golden file."""
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def write_golden(spark, folder: Path, *, shuffled: bool = False) -> None:
    """The golden events and ads as Delta tables; `shuffled`: rows in another order, files, and every event twice."""
    from pyspark.sql import functions as F

    events = spark.createDataFrame(golden_rows("events.jsonl"), EVENTS.replace("event_ts timestamp", "event_ts string"))
    events = events.withColumn("event_ts", F.to_timestamp("event_ts"))
    ads = spark.createDataFrame(golden_rows("ads.jsonl"), ADS)
    if shuffled:
        events, ads = events.union(events).orderBy(F.rand(7)).repartition(3), ads.orderBy(F.rand(7)).repartition(2)
    for name, rows in (("events", events), ("ads", ads)):
        rows.write.format("delta").mode("overwrite").save(str(folder / "local" / "golden" / name))


@pytest.fixture(scope="session")
def golden(spark, tmp_path_factory) -> Workspace:
    """A workspace with the golden tables and a registered multilingual model."""
    workspace = Workspace(tmp_path_factory.mktemp("golden"))
    write_golden(spark, workspace.folder)
    registered = workspace.submit("register_model", "--config", "golden.yaml")
    assert registered.returncode == 0, registered.stdout + registered.stderr
    return workspace
