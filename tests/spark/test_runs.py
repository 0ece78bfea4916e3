import pytest
from pyspark.sql import functions as F

from llmrec_spark.config import TablesConfig
from llmrec_spark.runs import Run, run_id_of
from llmrec_spark.storage import Storage
from llmrec_spark.tables import EXCLUSIONS, RUNS, SEQUENCES
from tests.conftest import utc
from tests.spark.rows import DAY, rows_of

READ = {"events": "0f0f@3", "ads": "1a1a@0"}


@pytest.fixture(scope="module")
def storage(spark, tmp_path_factory):
    """One for all tests here: each has its own run ids."""
    return Storage(spark, TablesConfig(root=str(tmp_path_factory.mktemp("tables"))))


def run_of(storage, run_id):
    return Run(
        storage=storage,
        run_id=run_id,
        job="score_daily",
        run_date=DAY,
        model_version="7",
        model_digest="m",
        config_digest="c",
        input_versions=READ,
        record_every_s=0,
    )


def exclusions_of(spark, *ads):
    rows = [{"user_id": "u", "ad_id": ad, "reason": "hidden"} for ad in ads]
    return rows_of(spark, EXCLUSIONS, *rows, leave_out=("run_id",))


def never():
    raise AssertionError("built again")


def killed_run(spark, storage, run_id):
    """A run that completed one stage and then was killed."""
    run = run_of(storage, run_id)
    run.counts["events_read"] = 9
    run.stage(EXCLUSIONS, lambda: exclusions_of(spark, "a", "b"))
    return run


def ads(rows):
    return sorted(row.ad_id for row in rows.collect())


def test_a_stage_is_written_read_back_counted_timed_and_recorded(spark, storage):
    assert ads(killed_run(spark, storage, "new").stage(EXCLUSIONS, never)) == ["a", "b"]
    [row] = storage.read_run(RUNS, "new").collect()
    assert (row.run_id, row.job, row.run_date, row.status) == ("new", "score_daily", DAY, "running")
    assert (row.model_version, row.model_digest, row.config_digest, row.input_versions) == ("7", "m", "c", READ)
    assert (row.counts, row.completed) == ({"events_read": 9, "exclusions": 2}, ["exclusions"])
    assert row.seconds["exclusions"] > 0
    assert utc(row.updated_at).year > 2020


def test_a_table_that_an_earlier_try_completed_is_not_built_again(spark, storage):
    killed_run(spark, storage, "killed")
    again = run_of(storage, "killed")
    again.resume()
    assert (again.counts, again.completed) == ({"events_read": 9, "exclusions": 2}, ["exclusions"])
    assert ads(again.stage(EXCLUSIONS, never)) == ["a", "b"]


def test_a_run_of_another_id_builds_its_own(spark, storage):
    killed_run(spark, storage, "one")
    other = run_of(storage, "another")
    other.resume()
    assert ads(other.stage(EXCLUSIONS, lambda: exclusions_of(spark, "c"))) == ["c"]
    assert ads(storage.read_run(EXCLUSIONS, "one")) == ["a", "b"]


def test_a_run_that_does_not_resume_builds_its_tables_anew(spark, storage):
    killed_run(spark, storage, "recomputed")
    assert ads(run_of(storage, "recomputed").stage(EXCLUSIONS, lambda: exclusions_of(spark, "d"))) == ["d"]
    assert [row.counts for row in storage.read_run(RUNS, "recomputed").collect()] == [{"exclusions": 1}]


def test_the_tables_of_an_expired_run_are_built_again(spark, storage):
    killed_run(spark, storage, "expired").record("published")
    storage.forget_runs(EXCLUSIONS, ["expired"])
    storage.mark_expired(RUNS, ["expired"])
    again = run_of(storage, "expired")
    again.resume()
    assert (again.completed, again.counts) == ([], {})
    assert ads(again.stage(EXCLUSIONS, lambda: exclusions_of(spark, "e"))) == ["e"]


def test_a_short_run_is_recorded_once_and_at_its_end(spark, storage):
    run = run_of(storage, "short")
    run.record_every_s = 3600
    run.stage(EXCLUSIONS, lambda: exclusions_of(spark, "a"))
    run.stage(SEQUENCES, lambda: rows_of(spark, SEQUENCES, leave_out=("run_id",)))
    [row] = storage.read_run(RUNS, "short").collect()
    assert (row.completed, row.status) == (["exclusions"], "running")
    run.record("shadow")
    [row] = storage.read_run(RUNS, "short").collect()
    assert (row.completed, row.status) == (["exclusions", "sequences"], "shadow")


@pytest.mark.parametrize(
    "nothing",
    [
        lambda rows: rows.limit(0),
        lambda rows: rows.where("false"),
        lambda rows: rows.where("ad_id = 'z'").groupBy("user_id", "ad_id").agg(F.first("reason").alias("reason")),
        lambda rows: rows.where("ad_id = 'z'").join(rows.select("user_id").where("user_id = 'z'"), on="user_id"),
    ],
    ids=["limit", "where", "an empty group", "an empty join"],
)
def test_no_rows_are_counted_as_none(spark, storage, nothing):
    run = run_of(storage, "nothing")
    run.stage(EXCLUSIONS, lambda: nothing(exclusions_of(spark, "a").repartition(2)))
    assert run.counts == {"exclusions": 0}


def test_a_stage_that_fails_is_not_complete(spark, storage):
    def broken():
        return exclusions_of(spark, "a").withColumn("reason", F.raise_error(F.lit("no such luck")).cast("string"))

    run = run_of(storage, "broken")
    with pytest.raises(Exception, match="no such luck"):
        run.stage(EXCLUSIONS, broken)
    assert run.completed == []
    assert storage.read_run(RUNS, "broken").count() == storage.read_run(EXCLUSIONS, "broken").count() == 0


def test_a_run_that_readers_see_stays_published_whatever_else_it_does(spark, storage):
    run = killed_run(spark, storage, "seen")
    run.is_published = True
    run.record("shadow")
    assert [row.status for row in storage.read_run(RUNS, "seen").collect()] == ["published"]


def test_a_run_id_follows_from_date_inputs_model_and_config_and_not_from_their_order():
    same = {"inputs": READ, "model": ("7", "m"), "config": "c"}
    run_id = run_id_of(DAY, **same)
    assert len(run_id) == 16
    assert run_id_of(DAY, **(same | {"inputs": dict(reversed(READ.items()))})) == run_id
    others = [{"inputs": READ | {"ads": "1a1a@1"}}, {"model": ("8", "m")}, {"model": ("7", "n")}, {"config": "d"}]
    changed = {run_id_of(DAY, **(same | other)) for other in others} | {run_id_of(DAY.replace(day=2), **same)}
    assert len(changed | {run_id}) == 6
