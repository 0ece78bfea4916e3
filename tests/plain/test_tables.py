import re

import pytest

from llmrec_spark.input_tables import INPUTS
from llmrec_spark.tables import OWN
from llmrec_spark.training_tables import TRAINING

OURS = OWN | TRAINING
each_table = pytest.mark.parametrize("table", [*INPUTS.values(), *OURS.values()], ids=lambda table: table.name)
each_own_table = pytest.mark.parametrize("table", OURS.values(), ids=OURS)
each_table_of_a_run = pytest.mark.parametrize("table", OWN.values(), ids=OWN)


def names(table):
    return [column.name for column in table.columns]


@each_table
def test_a_table_is_filed_under_its_name(table):
    assert (INPUTS | OURS)[table.name] is table


@each_table
def test_no_column_is_there_twice(table):
    assert len(names(table)) == len(set(names(table)))


@each_table
def test_the_key_is_made_of_columns(table):
    assert table.key
    assert set(table.key) <= set(names(table))


@each_own_table
def test_the_partition_is_made_of_columns_of_the_key(table):
    assert set(table.partition) <= set(table.key)


@each_own_table
def test_statistics_are_kept_of_columns(table):
    assert set(table.statistics) <= set(names(table))


@each_own_table
@pytest.mark.parametrize("personal", ["user_id", "key", "row"])
def test_no_statistics_are_kept_of_what_can_name_a_user(table, personal):
    assert personal not in table.statistics


@each_own_table
def test_no_partition_names_a_user(table):
    assert not {"user_id", "key", "row"} & set(table.partition)


@each_table_of_a_run
def test_rows_of_a_run_say_which(table):
    assert ("run_id" in names(table)) == (table.name != "text_vectors")


@each_own_table
def test_all_columns_of_our_tables_are_written(table):
    assert all(column.required for column in table.columns)


@each_table
def test_the_key_of_an_input_is_required(table):
    assert all(column.required for column in table.columns if column.name in table.key)


@each_table
def test_tables_and_columns_have_comments(table):
    assert table.comment
    assert all(column.comment for column in table.columns)


@each_own_table
def test_checks_speak_of_columns(table):
    assert {re.split(r"\W", condition)[0] for _, condition in table.checks} <= set(names(table))


def test_what_is_published_is_what_was_ranked_with_its_day():
    published, ranked = set(names(OWN["recommendations"])), set(names(OWN["rankings"]))
    assert published - ranked == {"run_date", "user_bucket"}
    assert ranked <= published


def test_a_published_day_can_be_pruned_by_bucket():
    assert "user_bucket" in OWN["recommendations"].statistics


def test_the_schema_names_every_column_with_its_type():
    assert OWN["exclusions"].ddl == "`run_id` string, `user_id` string, `ad_id` string, `reason` string"
