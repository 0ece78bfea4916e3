import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from time import monotonic, sleep

import pytest
from chispa import assert_df_equality
from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from llmrec_spark.config import InputConfig, TablesConfig
from llmrec_spark.errors import ConfigError, DataError, TryAgainError
from llmrec_spark.storage import Storage, write_input
from llmrec_spark.tables import EXCLUSIONS, RANKINGS, RECOMMENDATIONS, TEXT_VECTORS, Column, Table, table_columns
from tests.spark.rows import DAY, rows_of

NEXT_DAY = DAY.replace(day=2)
FAR = {"user_id": "secret-user-4711"}
WAIT_SECONDS = 60


def list_of(spark, *ad_ids, run_date=DAY, run_id="r1", user_id="u"):
    """Rows of recommendations: one list."""
    same = {"run_date": run_date, "user_bucket": "7b", "user_id": user_id, "run_id": run_id, "source": "personal"}
    rows = [same | {"rank": rank, "ad_id": ad_id} for rank, ad_id in enumerate(ad_ids, 1)]
    return rows_of(spark, RECOMMENDATIONS, *rows)


def exclusions_of(spark, *pairs):
    rows = [{"user_id": user, "ad_id": ad, "reason": "hidden"} for user, ad in pairs]
    return rows_of(spark, EXCLUSIONS, *rows, leave_out=("run_id",))


def vectors_of(spark, *hashes):
    rows = [{"encoder_digest": "d", "text_hash": one, "vector": bytearray(b"12")} for one in hashes]
    return rows_of(spark, TEXT_VECTORS, *rows)


def log_of(storage, table):
    """Every action of a table's transaction log, as text and as JSON, oldest first."""
    folder = Path(storage.where(table).split("`")[1]) / "_delta_log"
    text = "".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.json")))
    return text, [json.loads(line) for line in text.splitlines()]


def published(storage):
    rows = storage.read(RECOMMENDATIONS).collect()
    return sorted((str(row.run_date), row["rank"], row.ad_id, row.run_id) for row in rows)


def test_what_a_run_wrote_is_read_back_with_its_lists_and_nulls(spark, storage):
    reasons = [("a", "click", "title", 0.5), (None, None, "other", -1.5)]
    rows = rows_of(
        spark,
        RANKINGS,
        {"run_id": "r1", "user_id": "u", "rank": 1, "ad_id": "b", "score": -1.0, "reasons": reasons},
        {"run_id": "r1", "user_id": "跑者", "rank": 1, "ad_id": "b", "reasons": []},
    )
    assert storage.write_run(RANKINGS, rows.drop("run_id"), "r1") == 2
    assert_df_equality(storage.read_run(RANKINGS, "r1"), rows, ignore_row_order=True, ignore_metadata=True)


def test_tables_can_live_in_a_catalog(spark):
    spark.sql("CREATE SCHEMA IF NOT EXISTS our_ads")
    storage = Storage(spark, TablesConfig(catalog="our_ads"))
    assert storage.read(EXCLUSIONS).count() == 0
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark, ("u", "a"), ("u", "b")), "r1") == 2
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark, ("u", "c")), "r1") == 1
    assert [row.ad_id for row in spark.table("our_ads.exclusions").collect()] == ["c"]
    assert storage.add_missing(TEXT_VECTORS, vectors_of(spark, "h1")) == 1
    assert storage.add_missing(TEXT_VECTORS, vectors_of(spark, "h1", "h2")) == 1


def test_the_rows_of_several_days_are_replaced_together_and_no_others(spark, storage):
    third = DAY.replace(day=3)
    for day in (DAY, NEXT_DAY, third):
        storage.publish(list_of(spark, "old", run_date=day), day, {})
    fresh = list_of(spark, "a", "b").unionByName(list_of(spark, "c", run_date=third))
    assert storage.write_where(RECOMMENDATIONS, fresh, {"run_id": "r1", "run_date": [DAY, third]}) == 3
    assert [(day, ad_id) for day, _, ad_id, _ in published(storage)] == [
        (str(DAY), "a"),
        (str(DAY), "b"),
        (str(NEXT_DAY), "old"),
        (str(third), "c"),
    ]


def test_a_table_is_made_with_comments_checks_and_partition(storage):
    storage.create(RECOMMENDATIONS)
    [metadata] = [action["metaData"] for action in log_of(storage, RECOMMENDATIONS)[1] if "metaData" in action]
    columns = {one["name"]: one["metadata"]["comment"] for one in json.loads(metadata["schemaString"])["fields"]}
    assert columns == {column.name: column.comment for column in RECOMMENDATIONS.columns}
    assert metadata["description"] == RECOMMENDATIONS.comment
    assert metadata["partitionColumns"] == ["run_date"]
    assert {name: metadata["configuration"][f"delta.constraints.{name}"] for name, _ in RECOMMENDATIONS.checks} == dict(
        RECOMMENDATIONS.checks
    )


def test_a_row_that_breaks_a_check_is_refused(spark, storage):
    with pytest.raises(Exception, match=r"rank_from_one|RANK_FROM_ONE"):
        storage.publish(list_of(spark, "a").withColumn("rank", F.lit(0)), DAY, {})


@pytest.mark.parametrize(("table", "kept"), [(RECOMMENDATIONS, {"user_bucket", "rank"}), (EXCLUSIONS, set())])
def test_the_log_has_no_trace_of_a_user_id(spark, storage, table, kept):
    if table is RECOMMENDATIONS:
        storage.publish(list_of(spark, "a", "b", **FAR), DAY, {"run_id": "r1"})
    else:
        storage.write_run(table, exclusions_of(spark, (FAR["user_id"], "a")), "r1")
    text, actions = log_of(storage, table)
    statistics = [json.loads(action["add"]["stats"]) for action in actions if "add" in action]
    assert statistics
    assert {name for one in statistics for name in (*one.get("minValues", ()), *one.get("nullCount", ()))} == kept
    assert FAR["user_id"] not in text


def test_a_table_that_is_not_made_has_no_rows_and_stays_unmade(storage):
    found = storage.read(RECOMMENDATIONS)
    assert (found.count(), found.columns) == (0, [column.name for column in RECOMMENDATIONS.columns])
    assert not storage.exists(RECOMMENDATIONS)


def test_a_root_that_cannot_be_written_is_an_error_of_the_configuration(spark, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"tables\.root"):
        Storage(spark, TablesConfig(root=str(tmp_path / "file"))).create(EXCLUSIONS)


def test_a_run_replaces_its_own_rows_only(spark, storage):
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark, ("u", "a"), ("u", "b")), "r1") == 2
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark, ("v", "a")), "r2") == 1
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark, ("u", "c")), "r1") == 1
    assert [row.ad_id for row in storage.read_run(EXCLUSIONS, "r1").collect()] == ["c"]
    assert [row.user_id for row in storage.read_run(EXCLUSIONS, "r2").collect()] == ["v"]
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark), "r1") == 0
    assert storage.write_run(EXCLUSIONS, exclusions_of(spark), "r3") == 0
    assert storage.read(EXCLUSIONS).count() == 1
    storage.forget_runs(EXCLUSIONS, ["r2", "unheard of"])
    assert storage.read(EXCLUSIONS).count() == 0


def test_a_day_is_replaced_in_one_commit_that_names_its_lineage_and_other_days_stay(spark, storage):
    storage.publish(list_of(spark, "a", "b"), DAY, {"run_id": "r1"})
    storage.publish(list_of(spark, "c", run_date=NEXT_DAY, run_id="r2"), NEXT_DAY, {"run_id": "r2"})
    commits = len(log_of(storage, RECOMMENDATIONS)[1])
    assert storage.publish(list_of(spark, "d", run_id="r3"), DAY, {"run_id": "r3", "model_version": "7"}) == 1
    assert published(storage) == [("2026-03-01", 1, "d", "r3"), ("2026-03-02", 1, "c", "r2")]
    [commit] = [one["commitInfo"] for one in log_of(storage, RECOMMENDATIONS)[1][commits:] if "commitInfo" in one]
    assert json.loads(commit["userMetadata"]) == {"run_id": "r3", "model_version": "7"}


def test_rows_of_another_day_are_refused(spark, storage):
    storage.publish(list_of(spark, "a"), DAY, {})
    both = list_of(spark, "b").union(list_of(spark, "c", run_date=NEXT_DAY))
    with pytest.raises(AnalysisException, match="DELTA_REPLACE_WHERE_MISMATCH"):
        storage.publish(both, DAY, {})
    assert published(storage) == [("2026-03-01", 1, "a", "r1")]


@pytest.mark.parametrize("change", ["missing", "another", "of another type"])
def test_wrong_columns_are_refused_before_anything_is_written(spark, storage, change):
    rows = exclusions_of(spark, ("u", "a"))
    changed = {
        "missing": rows.drop("reason"),
        "another": rows.withColumn("query", rows["reason"]),
        "of another type": rows.withColumn("reason", rows["reason"].isNull()),
    }
    with pytest.raises(DataError, match=r"exclusions: columns .*(reason|query)"):
        storage.write_run(EXCLUSIONS, changed[change], "r1")
    assert not storage.exists(EXCLUSIONS)


def test_a_column_that_an_earlier_version_did_not_write_is_null_and_a_table_without_the_key_is_refused(spark, storage):
    storage.write_run(EXCLUSIONS, exclusions_of(spark, ("u", "a")), "r1")
    newer = replace(EXCLUSIONS, columns=(*EXCLUSIONS.columns, Column("since", "date", "new")))
    assert [row.since for row in storage.read(newer).collect()] == [None]
    with pytest.raises(DataError, match=r"lacks the columns \['since'\]"):
        storage.read(replace(newer, key=(*newer.key, "since")))


def test_missing_rows_are_added_once(spark, storage):
    assert storage.add_missing(TEXT_VECTORS, vectors_of(spark, "h1", "h2")) == 2
    assert storage.add_missing(TEXT_VECTORS, vectors_of(spark, "h2", "h3")) == 1
    assert storage.add_missing(TEXT_VECTORS, vectors_of(spark, "h2", "h3")) == 0
    assert sorted(row.text_hash for row in storage.read(TEXT_VECTORS).collect()) == ["h1", "h2", "h3"]


def test_of_two_writers_of_one_day_the_second_to_commit_is_told_to_try_again(spark, storage, tmp_path):
    started, go_on = tmp_path / "started", tmp_path / "go on"

    def hold(batches):  # the slow writer's rows come once the other one has committed
        from pathlib import Path
        from time import monotonic, sleep

        Path(started).touch()
        end = monotonic() + 60
        while not Path(go_on).exists() and monotonic() < end:
            sleep(0.02)
        yield from batches

    storage.publish(list_of(spark, "old"), DAY, {})
    slow = list_of(spark, "slow", run_id="slow").coalesce(1).mapInPandas(hold, RECOMMENDATIONS.ddl)
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(storage.publish, slow, DAY, {"run_id": "slow"})
        end = monotonic() + WAIT_SECONDS
        while not started.exists() and monotonic() < end and not writing.done():
            sleep(0.02)
        storage.publish(list_of(spark, "quick", run_id="quick"), DAY, {"run_id": "quick"})
        go_on.touch()
        with pytest.raises(TryAgainError, match="another writer"):
            writing.result(timeout=WAIT_SECONDS)
    assert published(storage) == [("2026-03-01", 1, "quick", "quick")]


def test_an_input_is_pinned_at_its_version(spark, storage, tmp_path):
    config = InputConfig(path=str(tmp_path / "ads"))
    assert write_input(spark.createDataFrame([("a",)], "ad_id string"), config) == 1
    first = storage.pin("ads", config)
    assert write_input(spark.createDataFrame([("b",), ("c",)], "ad_id string"), config, append=True) == 2
    second = storage.pin("ads", config)
    assert (first.rows.count(), second.rows.count()) == (1, 3)
    assert first.version.partition("@")[0] == second.version.partition("@")[0]
    assert (first.version.partition("@")[2], second.version.partition("@")[2]) == ("0", "1")


def test_an_input_that_is_not_there_is_named_with_its_key(storage, tmp_path):
    with pytest.raises(DataError, match=r"inputs\.events: no Delta table at .*nowhere"):
        storage.pin("events", InputConfig(path=str(tmp_path / "nowhere")))


def test_the_rankings_of_a_run_have_every_column_of_what_is_published():
    ours, theirs = ({column.name for column in table.columns} for table in (RANKINGS, RECOMMENDATIONS))
    assert theirs - ours == {"run_date", "user_bucket"}


def test_a_table_of_an_older_version_gets_the_columns_it_lacks(spark, tmp_path):
    storage = Storage(spark, TablesConfig(root=str(tmp_path)))
    older = Table("aged", "of an older version", table_columns(("name", "string", "it's the key")), key=("name",))
    newer = Table("aged", "now", (*older.columns, *table_columns(("more", "double", "it's new"))), key=("name",))
    storage.write_where(older, spark.createDataFrame([("a",)], "name string"), {"name": "a"})
    storage.write_where(newer, spark.createDataFrame([("b", 2.0)], "name string, more double"), {"name": "b"})
    assert {(row.name, row.more) for row in storage.read(newer).collect()} == {("a", None), ("b", 2.0)}
    [described] = spark.sql(f"DESCRIBE {storage.where(newer)}").where("col_name = 'more'").collect()
    assert described["comment"] == "it's new"
