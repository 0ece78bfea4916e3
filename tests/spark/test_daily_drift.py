from datetime import date

from pyspark.sql import Row

from llmrec_spark.config import EventsConfig
from llmrec_spark.daily_drift import filled_columns, window_profiles
from llmrec_spark.evaluation_tables import SCORE_PROFILES
from llmrec_spark.tables import RECOMMENDATIONS
from tests.spark.rows import rows_of


def test_the_window_holds_the_published_runs_of_the_days_before_that_have_a_profile(spark, storage):
    published = {1: "a", 2: "b", 3: "c", 10: "d", 11: "later"}  # day of March -> the run readers see
    lists = [
        {"run_date": date(2026, 3, day), "run_id": run, "user_id": "u", "ad_id": "a", "rank": 1}
        for day, run in published.items()
    ]
    twice = [{**one, "rank": 2} for one in lists]
    profiled = [(1, "a"), (3, "c"), (3, "superseded"), (10, "d"), (10, "shadow"), (11, "later")]
    figures = [
        {"run_date": date(2026, 3, day), "run_id": run, "name": name, "value": value, "n": day, "sample": sample}
        for day, run in profiled
        for name, value, sample in (("rows.users", float(day), []), ("values.score", None, [0.5, 1.5]))
    ]
    for table, rows in ((RECOMMENDATIONS, lists + twice), (SCORE_PROFILES, figures)):
        storage.create(table)
        rows_of(spark, table, *rows).write.format("delta").mode("append").save(storage.where(table)[7:-1])
    run = Row(run_date=date(2026, 3, 10), run_id="d")
    found = window_profiles(storage, run, window_days=9)
    assert {day.day: figures["rows.users"].value for day, figures in found.items()} == {1: 1.0, 3: 3.0, 10: 10.0}
    assert (found[run.run_date]["values.score"].value, found[run.run_date]["values.score"].n) == (None, 10)
    assert found[run.run_date]["values.score"].sample.tolist() == [0.5, 1.5]
    assert sorted(day.day for day in window_profiles(storage, run, window_days=8)) == [3, 10]


def test_a_column_is_looked_at_in_the_types_that_may_fill_it():
    found = filled_columns(
        EventsConfig(conversions=(), impressions=("shown",), weights={"shown": 0, "click": 1, "search": 1})
    )
    assert found["position"] == ("shown", "click")
    assert found["query"] == ("search",)
    assert "value" not in found  # of a shop without conversions
    assert filled_columns(EventsConfig(impressions=("click",)))["run_id"] == ("click",)
