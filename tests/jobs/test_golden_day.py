"""The whole job on a dozen ads and users, through real spark-submit: the right rows, and always the same rows."""

import contextlib
import json
import os
import re
import shutil
import signal
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import functions as F

from tests.conftest import INTERPRETED
from tests.jobs.conftest import BIN, GOLDEN, job, write_golden

DAY = ("--config", "golden.yaml", "--date", "2026-03-01")
TABLE = "local/golden/tables/recommendations"


def published(spark, workspace) -> list[tuple]:
    """The published day without what names the run: user, rank, ad, source, score."""
    rows = spark.read.format("delta").load(str(workspace.folder / TABLE)).where("run_date = '2026-03-01'")
    found = rows.orderBy("user_id", "rank").select("user_id", "rank", "ad_id", "source", F.col("score"))
    return [tuple(row) for row in found.collect()]


@pytest.fixture(scope="module")
def killed(golden) -> list[str]:
    """What a first run said before it was killed, in the midst of its line of tables."""
    with golden.start("score_daily", *DAY, conf=INTERPRETED) as first:
        said = []
        for line in first.stdout:
            said.append(line)
            if line.startswith("sequences "):  # quarantine was recorded, sequences was not
                os.killpg(first.pid, signal.SIGKILL)
    assert first.returncode == -signal.SIGKILL, "".join(said)
    return said


@pytest.fixture(scope="module")
def taken_up(spark, golden, killed) -> str:
    """What the run after that said, in another process than the first."""
    with contextlib.chdir(golden.folder):
        code, said = job("score_daily", *DAY)
    assert code == 0, said
    return said


@pytest.fixture(scope="module")
def first_day(spark, golden, taken_up) -> list[tuple]:
    """The rows of the first run that ended."""
    return published(spark, golden)


def same_rows(found: list[tuple], expected: list[tuple]) -> None:
    """Users, ranks, ads and sources equal, scores to 1e-5."""
    assert [row[:4] for row in found] == [tuple(row[:4]) for row in expected]
    assert [row[4] for row in found] == pytest.approx([row[4] for row in expected], abs=1e-5)


def test_the_golden_day_has_the_expected_rows(first_day):
    expected = json.loads((GOLDEN / "expected.json").read_text(encoding="utf-8"))
    same_rows([(*row[:4], row[4]) for row in first_day], [tuple(row) for row in expected])


def test_a_killed_run_is_taken_up_where_it_was_recorded(killed, taken_up):
    assert not [line for line in killed if "of an earlier try" in line]
    run = next(line for line in killed if line.startswith("run "))
    assert run in taken_up.splitlines(keepends=True)
    assert re.search(r"^quarantine +\d+ rows +of an earlier try of this run$", taken_up, re.M)
    assert "published 2026-03-01: " in taken_up


def test_a_reader_of_chinese_running_shoes_is_shown_running_shoes_in_either_language(first_day):
    shown = [row[2] for row in first_day if row[0] == "reads_zh_running"]
    assert set(shown[:2]) == {"run_zh_1", "run_zh_2"}
    assert set(shown[2:]) == {"run_en_1", "run_en_2"}


def test_what_a_user_hid_is_not_shown(first_day):
    assert "dog_zh_1" not in [row[2] for row in first_day if row[0] == "hides_dogs"]


def test_who_only_looked_gets_a_cold_start_list(first_day):
    assert {row[3] for row in first_day if row[0] == "only_looked"} == {"cold_start"}


SHORT_LIVED = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=256m -XX:+UseSerialGC -Xlog:cds*=error"
ANOTHER_HOST = INTERPRETED | {  # an executor of its own, other partitions, plans and time zones
    "spark.master": "local-cluster[1,2,1024]",
    "spark.sql.shuffle.partitions": "3",
    "spark.sql.session.timeZone": "America/Los_Angeles",
    "spark.sql.adaptive.enabled": "true",
    "spark.executor.extraJavaOptions": f"-XX:SharedArchiveFile={BIN.parent}/spark.jsa {SHORT_LIVED}",
}


@pytest.fixture
def tidy_workers():
    """What the executors of local-cluster keep in Spark's own folder, which no setting moves, is removed."""
    place = Path(pyspark.__file__).parent / "work"
    before = set(place.glob("app-*"))
    yield
    for folder in set(place.glob("app-*")) - before:
        shutil.rmtree(folder)


@pytest.mark.usefixtures("tidy_workers")
def test_shuffled_doubled_and_later_input_gives_the_same_rows_on_another_host(spark, golden, first_day):
    write_golden(spark, golden.folder, shuffled=True)
    done = golden.submit("score_daily", *DAY, "--force", "--recompute", conf=ANOTHER_HOST, env={"TZ": "Asia/Shanghai"})
    assert done.returncode == 0, done.stdout + done.stderr
    same_rows(published(spark, golden), first_day)
    runs = spark.read.format("delta").load(str(golden.folder / "local/golden/tables/runs"))
    counts = runs.orderBy(F.desc("updated_at")).first().counts
    assert counts["events_refused: doubled event_id"] * 3 == counts["events_read"]
    assert counts["events_later"] * 3 == counts["events_read"]
    assert counts["behaviours_without_ad"] == 1  # a click on an ad that is no more
