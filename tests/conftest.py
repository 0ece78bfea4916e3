"""What Spark tests share: one session as spark-submit would configure it, a storage of one's own, times in UTC."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]
SHARED_DATA = REPO.parent / "shared" / "data"  # data sets beside the checkout, not part of it
os.environ["PYSPARK_PYTHON"] = os.environ["PYSPARK_DRIVER_PYTHON"] = sys.executable  # before pyspark starts
for threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):  # before torch: threads of several test processes that wait
    os.environ.setdefault(threads, "1")  # for each other on two cores do it by spinning


INTERPRETED = {  # to compile a plan that reads a dozen rows takes longer than to interpret it
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",
}
LONGEST = (
    "test_readme.py",
    "test_evaluate.py",
    "test_golden_day.py",
    "test_sample_days.py",  # waits for the sample of test_readme.py, which is there by then
    "test_make_ranklens.py",
    "test_training.py",
    "test_training_examples.py",
    "test_training_data.py",
)  # a minute or more, most of it jobs


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, so that of several test processes none is left with one of them at the end."""
    items.sort(key=lambda item: LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST))


def at(text: str) -> datetime:
    """`2026-03-01 12:00` as UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def utc(collected: datetime) -> datetime:
    """A timestamp that Spark's collect() gave, which is in the zone of this process, as UTC."""
    return collected.astimezone(UTC)


@contextmanager
def session_time_zone(spark, zone: str) -> Iterator[None]:
    """The session in another time zone for the block."""
    before = spark.conf.get("spark.sql.session.timeZone")
    spark.conf.set("spark.sql.session.timeZone", zone)
    try:
        yield
    finally:
        spark.conf.set("spark.sql.session.timeZone", before)


def spark_defaults() -> dict[str, str]:
    """conf/spark-defaults.conf, its one relative path made absolute."""
    lines = (REPO / "conf" / "spark-defaults.conf").read_text(encoding="utf-8").splitlines()
    pairs = dict(line.split(maxsplit=1) for line in lines if line.strip() and not line.startswith("#"))
    options = pairs["spark.driver.extraJavaOptions"]
    log4j = (REPO / "conf" / "log4j2.properties").as_uri()
    pairs["spark.driver.extraJavaOptions"] = options.replace("conf/log4j2.properties", log4j)
    return pairs


@pytest.fixture(scope="session")
def spark(tmp_path_factory):
    """A session of two cores with Delta that writes nothing outside pytest's temporary folder."""
    from pyspark.sql import SparkSession

    scratch = tmp_path_factory.mktemp("spark")
    settings = spark_defaults()
    own = f"-Djava.io.tmpdir={scratch} -Dderby.system.home={scratch}"
    settings |= {
        "spark.master": "local[2]",
        "spark.ui.enabled": "false",
        "spark.driver.memory": "2g",  # of each test process, beside the jobs it starts
        "spark.sql.shuffle.partitions": "1",  # a dozen rows; who asks whether partitions matter makes some
        "spark.databricks.delta.snapshotPartitions": "1",
        **INTERPRETED,
        "spark.local.dir": str(scratch),
        "spark.sql.warehouse.dir": str(scratch / "warehouse"),
        "spark.driver.extraJavaOptions": f"{settings['spark.driver.extraJavaOptions']} {own}",
    }
    builder = SparkSession.builder.appName("tests")
    for key, value in settings.items():
        builder = builder.config(key, value)
    session = builder.getOrCreate()
    yield session
    session.stop()


@pytest.fixture
def storage(spark, tmp_path):
    """Our tables, none of them made yet, under a folder of this test."""
    from llmrec_spark.config import TablesConfig
    from llmrec_spark.storage import Storage

    return Storage(spark, TablesConfig(root=str(tmp_path / "tables")))
