"""The only door to Spark: a session with Delta in UTC, folders shared with its workers, and progress of long jobs."""

from __future__ import annotations

import os
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from py4j.java_gateway import JavaPackage
from py4j.protocol import Py4JJavaError
from pyspark import SparkFiles
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from llmrec_spark.errors import MissingDependencyError

SUBMIT = "spark-submit --properties-file conf/spark-defaults.conf"
JOB_FAILED = (PySparkException, Py4JJavaError)  # what a job of Spark that fails raises


def spark_session(application: str) -> SparkSession:
    """The session that spark-submit configured, in UTC. Raises MissingDependencyError without Delta or its Python."""
    spark = SparkSession.builder.appName(application).getOrCreate()
    spark.conf.set("spark.sql.session.timeZone", "UTC")
    on_class_path = not isinstance(spark.sparkContext._jvm.io.delta.tables.DeltaTable, JavaPackage)  # type: ignore[union-attr]
    if not on_class_path or "DeltaSparkSessionExtension" not in (spark.conf.get("spark.sql.extensions", "") or ""):
        raise MissingDependencyError(_no_delta())
    _check_workers(spark)
    return spark


def _no_delta() -> str:
    return (
        "Delta Lake is not on Spark's class path or not enabled (expected io.delta:delta-spark_4.2_2.13:4.4.0 and "
        f"io.delta.sql.DeltaSparkSessionExtension). Run: {SUBMIT} {' '.join(sys.argv) or 'jobs/score_daily.py'}"
    )


def _check_workers(spark: SparkSession) -> None:
    """Workers start PYSPARK_PYTHON or PATH's python3, which may be another Python than this one."""
    found = spark.sparkContext.pythonVer
    worker = os.environ.get("PYSPARK_PYTHON") or shutil.which("python3")
    if worker and Path(worker).exists() and not _same_python(worker):
        raise MissingDependencyError(
            f"Spark's workers would start {worker}, which lacks llmrec_spark or is not Python {found} like the driver "
            f"({sys.executable}). Set PYSPARK_PYTHON={sys.executable} and run again."
        )


def _same_python(worker: str) -> bool:
    if os.path.abspath(worker) == os.path.abspath(sys.executable):
        return True
    import subprocess  # only where another Python has to be asked

    asked = "import sys, importlib.util as i; print(*sys.version_info[:2], i.find_spec('llmrec_spark') is not None)"
    answer = subprocess.run([worker, "-c", asked], capture_output=True, text=True, check=False).stdout.split()
    return answer == [str(sys.version_info[0]), str(sys.version_info[1]), "True"]


def share_folder(spark: SparkSession, folder: Path, name: str) -> str:
    """What `shared_folder` finds the folder's files by on every worker, each node fetching them once.

    `local[N]` workers read the folder where it is. Elsewhere it travels as one archive called `name`, which must be
    unique to the content: Spark never sends a second file of one name, and a folder shared before is not sent again.
    """
    context = spark.sparkContext
    if (context.master or "").startswith("local["):
        return str(folder.resolve())
    archive = Path(context._temp_dir) / f"{name}.zip"  # type: ignore[arg-type]  # lives as long as the session
    if not archive.exists():
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:  # weights do not compress
            for file in sorted(path for path in folder.rglob("*") if path.is_file()):
                packed.write(file, file.relative_to(folder))
        spark.addArtifacts(str(archive), archive=True)
    return archive.name


def shared_folder(name: str) -> Path:
    """On a worker: the folder that `share_folder` named."""
    return Path(name) if os.path.isabs(name) else Path(SparkFiles.get(name))


def task_device() -> str:
    """The torch device of the running task: a GPU that Spark gave to it, or else the CPU."""
    from pyspark import TaskContext

    context = TaskContext.get()
    gpu = context.resources().get("gpu") if context else None
    return f"cuda:{gpu.addresses[0]}" if gpu else "cpu"


def parallel_tasks(spark: SparkSession) -> int:
    """How many tasks the session runs at once."""
    return spark.sparkContext.defaultParallelism


def shuffle_tasks(spark: SparkSession) -> int:
    """Tasks for a shuffle that must not be merged into one: those of the session's shuffles, and no core left idle."""
    return max(parallel_tasks(spark), int(spark.conf.get("spark.sql.shuffle.partitions") or 1))


@contextmanager
def progress(spark: SparkSession, label: str, *, every_seconds: float = 5.0) -> Iterator[None]:
    """Prints how many tasks of the running Spark stages are done, while the block takes longer than a few seconds."""
    tracker = spark.sparkContext.statusTracker()
    finished = threading.Event()

    def watch() -> None:
        shown = ""
        while not finished.wait(every_seconds):
            stages = [tracker.getStageInfo(stage) for stage in tracker.getActiveStageIds()]
            running = [stage for stage in stages if stage]
            done, total = sum(s.numCompletedTasks for s in running), sum(s.numTasks for s in running)
            if total > 1 and (line := f"  {label}: {done} of {total} tasks done") != shown:
                print(line, flush=True)
                shown = line

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        finished.set()
        watcher.join()
