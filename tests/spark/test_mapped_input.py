import re

import pytest

from llmrec_spark.column_maps import mapped_input
from llmrec_spark.config import InputConfig
from llmrec_spark.errors import DataError
from llmrec_spark.input_tables import ADS, EVENTS
from tests.conftest import at, session_time_zone

OURS = "event_id string, user_id string, ad_id string, event_type string, event_ts timestamp"
NOON = at("2026-03-01 12:00")
ZONES = ["UTC", "Asia/Shanghai", "America/New_York"]


def mapped(rows, name="events", columns=None, separators=None):
    config = InputConfig(path="/their/table", columns=columns or {})
    return mapped_input(name, rows, "/their/table", config, separators or {})


def one_event(spark, **changed):
    """One row of a company's events; a changed column is SQL, or None for no such column."""
    values = {
        "event_id": "'e'",
        "user_id": "'u'",
        "ad_id": "'a'",
        "event_type": "'click'",
        "event_ts": "TIMESTAMP'2026-03-01 12:00:00Z'",
    } | changed
    return spark.sql("SELECT " + ", ".join(f"{sql} AS `{name}`" for name, sql in values.items() if sql is not None))


def test_our_columns_come_first_with_our_types_and_absent_ones_are_null(spark):
    found = mapped(one_event(spark))
    assert found.dtypes == [(column.name, column.kind) for column in EVENTS.columns]
    [row] = found.collect()
    assert (row.event_id, row.query, row.position) == ("e", None, None)


def test_columns_are_found_by_their_map_and_the_others_keep_their_names(spark):
    theirs = one_event(spark, user_id=None, customer="'c'", segment="'gold'")
    found = mapped(theirs, columns={"user_id": "customer"})
    assert found.columns == [*(column.name for column in EVENTS.columns), "segment"]
    assert [(row.user_id, row.segment) for row in found.collect()] == [("c", "gold")]


@pytest.mark.parametrize("name", ["user_id", "User_ID"])
def test_a_mapped_column_wins_over_one_that_has_our_name(spark, name):
    theirs = one_event(spark, **({"user_id": None} | {name: "'internal'", "customer": "'c'"}))
    found = mapped(theirs, columns={"user_id": "customer"})
    assert found.columns == [column.name for column in EVENTS.columns]
    assert [row.user_id for row in found.select("user_id").collect()] == ["c"]


def test_a_column_whose_name_has_a_dot_can_be_mapped(spark):
    found = mapped(one_event(spark, user_id=None, **{"who.id": "'c'", "a.b": "1"}), columns={"user_id": "who.id"})
    assert [row.user_id for row in found.collect()] == ["c"]
    assert found.columns[-1] == "a.b"


def test_a_missing_column_is_named_with_the_key_that_maps_it(spark):
    with pytest.raises(
        DataError, match=r"inputs\.events \(/their/table\).*'user_id'.*inputs\.events\.columns\.user_id"
    ):
        mapped(one_event(spark, user_id=None, customer="'c'"))


def test_a_map_to_a_column_that_is_not_there_is_refused(spark):
    with pytest.raises(DataError, match=r"names \['costumer'\].*customer"):
        mapped(one_event(spark, customer="'c'"), columns={"user_id": "costumer"})


@pytest.mark.parametrize(
    ("name", "sql", "found", "expected"),
    [
        ("event_ts", "'2026-03-01 12:00'", "string", "timestamp"),
        ("event_ts", "1772366400", "int", "timestamp"),
        ("event_ts", "DATE'2026-03-01'", "date", "timestamp"),
        ("user_id", "array('u')", "array<string>", "string"),
        ("user_id", "true", "boolean", "string"),
        ("user_id", "1.5D", "double", "string"),
        ("user_id", "CAST(7 AS DECIMAL(20,2))", "decimal(20,2)", "string"),
        ("position", "'first'", "string", "int"),
    ],
)
def test_a_column_of_a_wrong_type_is_refused(spark, name, sql, found, expected):
    with pytest.raises(DataError, match=re.escape(f"column '{name}' is {found}, expected {expected}")):
        mapped(one_event(spark, **{name: sql}))


@pytest.mark.parametrize(
    ("sql", "expected"), [("42", "42"), ("9007199254740993L", "9007199254740993"), ("CAST(7 AS DECIMAL(20,0))", "7")]
)
def test_ids_that_are_numbers_become_strings(spark, sql, expected):
    assert [row.ad_id for row in mapped(one_event(spark, ad_id=sql)).collect()] == [expected]


def test_numbers_of_other_widths_are_cast(spark):
    found = mapped(one_event(spark, position="3L", value="CAST(2.5 AS DECIMAL(10,2))", cost="2"))
    assert [(row.position, row.value, row.cost) for row in found.collect()] == [(3, 2.5, 2.0)]


@pytest.mark.parametrize("zone", ZONES)
@pytest.mark.parametrize(
    "kind", ["TIMESTAMP_NTZ'2026-03-01 12:00:00.000001'", "TIMESTAMP'2026-03-01 12:00:00.000001Z'"]
)
def test_a_time_without_a_zone_is_utc_in_any_time_zone_of_the_session(spark, kind, zone):
    with session_time_zone(spark, zone):
        found = mapped(one_event(spark, event_ts=kind)).selectExpr("unix_micros(event_ts) AS at").collect()
    assert [row.at for row in found] == [int(NOON.timestamp()) * 1_000_000 + 1]


@pytest.mark.parametrize("zone", ZONES)
def test_an_hour_that_a_change_of_clocks_skips_is_read_all_the_same(spark, zone):
    with session_time_zone(spark, zone):
        skipped = "TIMESTAMP_NTZ'2026-03-08 02:30:00'"  # is no hour in New York
        found = mapped(one_event(spark, event_ts=skipped)).selectExpr("unix_micros(event_ts) AS at").collect()
    assert [row.at for row in found] == [int(at("2026-03-08 02:30").timestamp()) * 1_000_000]


@pytest.mark.parametrize(
    ("separator", "text", "phrases"),
    [
        ("|", "'red|light shoes'", ["red", "light shoes"]),
        (".", "'a.b'", ["a", "b"]),
        (None, "'red, light'", ["red, light"]),
        (";", "CAST(NULL AS STRING)", None),
        (None, "array('x', 'y')", ["x", "y"]),
    ],
)
def test_a_list_given_as_text_is_split_at_its_separator(spark, separator, text, phrases):
    ads = spark.sql(f"SELECT 1 AS ad_id, 't' AS title, {text} AS tags")
    found = mapped(ads, name="ads", separators={} if separator is None else {"tags": separator})
    assert found.dtypes == [(column.name, column.kind) for column in ADS.columns]
    assert [(row.ad_id, row.tags) for row in found.collect()] == [("1", phrases)]


def test_an_empty_table_is_mapped_to_an_empty_one(spark):
    assert mapped(spark.createDataFrame([], OURS)).count() == 0
