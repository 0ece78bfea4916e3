import json
import random

import pytest

from llmrec_spark.input_tables import EVENTS
from llmrec_spark.quarantine import accepted, refusals, refuse_doubles
from llmrec_spark.tables import QUARANTINE
from tests.spark.rows import event, events_of

COLUMNS = [column.name for column in EVENTS.columns if column.name != "query"]  # as daily_inputs asks


def refused_events(spark, *rows):
    """Events refused for the reason that stands in their request_id."""
    return events_of(spark, *rows).withColumnRenamed("request_id", "refused").withColumn("request_id", events_null())


def events_null():
    from pyspark.sql import functions as F

    return F.lit(None).cast("string")


def kept(checked, per_reason=100):
    return refusals(checked, table="events", key=["event_id"], columns=COLUMNS, per_reason=per_reason)


def test_a_refused_row_tells_table_key_reason_user_and_content(spark):
    [row] = kept(refused_events(spark, event("e1", request_id="bad day", position=3), event("e2"))).collect()
    content = json.loads(row.row)
    assert row.asDict() | {"row": None} == {
        "table": "events",
        "key": "e1",
        "reason": "bad day",
        "user_id": "u",
        "row": None,
    }
    assert (content["event_id"], content["position"], content["event_ts"]) == ("e1", 3, "2026-02-28T12:00:00.000Z")


def test_the_columns_are_those_of_the_contract(spark):
    expected = {c.name: c.kind for c in QUARANTINE.columns if c.name != "run_id"}
    assert dict(kept(refused_events(spark)).dtypes) == expected


def test_a_refused_search_does_not_tell_its_query(spark):
    checked = refused_events(spark, event("e", "search", query="my illness", request_id="bad"))
    [row] = kept(checked).collect()
    assert "illness" not in str(row)


def test_a_row_without_a_key_is_kept_as_null(spark):
    [row] = kept(refused_events(spark, event(None, user_id=None, request_id="NULL event_id"))).collect()
    assert (row.key, row.user_id) == ("NULL", None)


@pytest.mark.parametrize("partitions", [1, 5])
def test_each_reason_keeps_as_many_rows_and_always_the_same(spark, partitions):
    rows = [event(f"e{n:02d}", request_id=reason) for n in range(20) for reason in ("good grief", "no")]
    rows.append(event("only", request_id="rare"))
    shuffled = random.Random(partitions).sample(rows, len(rows))
    checked = refused_events(spark, *shuffled).repartition(partitions)
    found = sorted((row.reason, row.key) for row in kept(checked, per_reason=2).collect())
    assert found == [("good grief", "e00"), ("good grief", "e01"), ("no", "e00"), ("no", "e01"), ("rare", "only")]


def test_tables_without_users_are_quarantined_too(spark):
    checked = spark.createDataFrame([("x", "doubled ad_id")], "ad_id string, refused string")
    [row] = refusals(checked, table="ads", key=["ad_id"], columns=["ad_id"], per_reason=1).collect()
    assert (row.key, row.user_id, row.row) == ("x", None, '{"ad_id":"x"}')


def test_accepted_rows_are_those_without_a_reason(spark):
    checked = refused_events(spark, event("good"), event("bad", request_id="bad"))
    assert [row.event_id for row in accepted(checked).collect()] == ["good"]
    assert "refused" not in accepted(checked).columns


def test_doubles_are_sought_among_the_rows_of_the_condition_only(spark):
    checked = refused_events(spark, event("e", "click"), event("e", "cart"), event("e", "search", query="q"))
    from pyspark.sql import functions as F

    marked = refuse_doubles(checked, key=["event_id"], order=["event_type"], among=F.col("query").isNull())
    assert {row.event_type: row.refused for row in marked.collect()} == {
        "cart": None,
        "click": "doubled event_id",
        "search": None,
    }
