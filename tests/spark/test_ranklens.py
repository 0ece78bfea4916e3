import math
from datetime import UTC, datetime

import pytest

from llmrec_spark.errors import DataError
from llmrec_spark.ranklens import AS_THEY_ARE, LOGARITHMS, ads, candidates, dated_lists, events, ranklens_tables
from tests.conftest import SHARED_DATA, at, utc

LISTS = "id string, timestamp string, user string, items array<struct<id: string, relevancy: double>>"
CLICKS = "ranking string, item string"
NAMED = "struct<name: string>"
MOVIES = (
    f"id bigint, title string, overview string, tags array<string>, genres array<{NAMED}>, "
    f"topActors array<{NAMED}>, director {NAMED}, writer {NAMED}, releaseDate bigint, "
    "runtime bigint, tmdbVoteAverage double, tmdbVoteCount bigint, tmdbPopularity double, budget bigint, revenue double"
)

NUMBERS = (90, 7.5, 99, 2.5, 0, math.expm1(5.0))


def list_row(list_id, second, *items, user="u"):
    """A list shown so many seconds after 09:00 on a nominal day."""
    milliseconds = int(datetime(2021, 11, 15, 9, 0, second, tzinfo=UTC).timestamp() * 1000)
    return (list_id, str(milliseconds), user, [(item, 0.0) for item in items])


@pytest.mark.parametrize("partitions", [1, 5])
def test_the_lists_of_a_user_lie_on_consecutive_days_up_to_the_last(spark, partitions):
    rows = [list_row("tied b", 2), list_row("first", 1), list_row("tied a", 2), list_row("other", 9, user="v")]
    found = dated_lists(spark.createDataFrame(rows, LISTS).repartition(partitions)).collect()
    assert {row.request_id: (utc(row.shown_at), row.from_last) for row in found} == {
        "tied b": (at("2021-11-21 09:00:02"), 0),
        "tied a": (at("2021-11-20 09:00:02"), 1),
        "first": (at("2021-11-19 09:00:01"), 2),
        "other": (at("2021-11-21 09:00:09"), 0),
    }


def test_a_film_of_a_list_is_an_impression_and_a_click_follows_five_seconds_later(spark):
    lists = dated_lists(spark.createDataFrame([list_row("r", 0, "10", "20"), list_row("s", 1, "20", user="v")], LISTS))
    found = events(lists, spark.createDataFrame([("r", "20"), ("r", "20"), ("r", "99"), ("gone", "10")], CLICKS))
    rows = {(row.event_id, row.event_type, row.ad_id, row.position, utc(row.event_ts)) for row in found.collect()}
    assert rows == {
        ("i-r-1", "impression", "10", 1, at("2021-11-21 09:00:00")),
        ("i-r-2", "impression", "20", 2, at("2021-11-21 09:00:00")),
        ("i-s-1", "impression", "20", 1, at("2021-11-21 09:00:01")),
        ("c-r-2", "click", "20", 2, at("2021-11-21 09:00:05")),
    }
    assert found.count() == 4


def test_the_candidates_of_a_user_are_the_films_of_the_last_list(spark):
    rows = [list_row("r", 0, "10", "20"), list_row("s", 1, "20", "30"), list_row("t", 0, "10", user="v")]
    found = candidates(dated_lists(spark.createDataFrame(rows, LISTS))).collect()
    assert {(row.user_id, row.ad_id) for row in found} == {("u", "20"), ("u", "30"), ("v", "10")}


def test_a_film_is_an_ad_and_its_people_are_named_once(spark):
    actors = [("A",), ("B",), (None,), ("C",), ("too late",)]
    movies = [
        (1, "T", "O", ["x"], [("Drama",), ("War",)], actors, ("B",), ("W",), 3_653, *NUMBERS),
        (2,) + (None,) * 14,
    ]
    film, bare = sorted(ads(spark.createDataFrame(movies, MOVIES)).collect())
    assert (film.ad_id, film.title, film.description, film.tags) == ("1", "T", "O", ["x"])
    assert (film.category, film.people, film.year) == (["Drama", "War"], ["A", "B", "C", "W"], 1980)
    assert (bare.ad_id, bare.category, bare.year) == ("2", None, None)
    assert (film.runtime, film.rating, film.log_budget) == (90.0, 7.5, None)
    assert [film.log_votes, film.log_popularity, film.log_revenue] == pytest.approx([math.log(100), math.log(3.5), 5.0])
    assert [bare[name] for name in (*AS_THEY_ARE, *LOGARITHMS)] == [None] * 6


def test_a_folder_that_lacks_files_is_refused_with_their_names(spark, tmp_path):
    with pytest.raises(DataError, match=r"lacks movies\.parquet, rankings\.parquet, interactions\.parquet"):
        ranklens_tables(spark, tmp_path)


@pytest.mark.skipif(not (SHARED_DATA / "ranklens").is_dir(), reason="RankLens is not at ../shared/data/ranklens")
def test_ranklens_itself_has_the_rows_that_its_authors_counted(spark):
    tables = ranklens_tables(spark, SHARED_DATA / "ranklens")
    counts = {row.event_type: row["count"] for row in tables["events"].groupBy("event_type").count().collect()}
    assert counts == {"impression": 188_160, "click": 36_606}
    assert tables["events"].select("event_id").distinct().count() == 188_160 + 36_606
    assert (tables["ads"].count(), tables["candidates"].count()) == (2_512, 1_714 * 24)
