"""Which ads the same people act on."""

import math

import pytest

from llmrec_spark.ad_neighbours import ad_neighbours
from llmrec_spark.tables import AD_NEIGHBOURS

HISTORIES = [
    ("u1", ["a", "b", "a"]),  # an ad counts once
    ("u2", ["a", "b", None]),  # a search
    ("u3", ["a", "c"]),
    ("u4", ["a", "c", "d"]),
    ("u5", ["e", "d"]),  # nobody else has both
    ("u6", []),
]


def neighbours(spark, histories=HISTORIES, **how):
    rows = spark.createDataFrame(histories, "user_id string, ad_ids array<string>")
    found = ad_neighbours(rows, **{"most": 10, **how})
    assert set(found.columns) == {column.name for column in AD_NEIGHBOURS.columns} - {"run_id"}
    assert dict(found.dtypes)["similarities"] == "array<double>"
    return {row.ad_id: dict(zip(row.neighbours, row.similarities, strict=True)) for row in found.collect()}


def test_a_similarity_is_the_cosine_of_who_acted_on_either(spark):
    found = neighbours(spark, [*HISTORIES, ("u7", ["b"])])
    ab, ac = pytest.approx(2 / math.sqrt(4 * 3)), pytest.approx(2 / math.sqrt(4 * 2))
    assert found == {"a": {"c": ac, "b": ab}, "b": {"a": ab}, "c": {"a": ac}}
    assert list(found["a"]) == ["c", "b"]  # nearest first


def test_the_nearest_are_kept_and_equal_ones_by_their_id(spark):
    found = neighbours(spark, [(user, ["a", "b", "c", "d"]) for user in ("u1", "u2")], most=2)
    assert {ad: list(near) for ad, near in found.items()} == {
        "a": ["d", "c"],
        "b": ["d", "c"],
        "c": ["d", "b"],
        "d": ["c", "b"],
    }


def test_of_many_users_the_same_few_are_counted_however_rows_arrive(spark):
    many = [(f"u{number}", [f"a{number % 7}", f"a{number % 5}", f"a{number % 3}"]) for number in range(40)]
    found = neighbours(spark, many, users=20)
    assert neighbours(spark, many[::-1], users=20) == found != neighbours(spark, many)


def test_nobody_beside_anybody_gives_no_row(spark):
    assert neighbours(spark, [("u1", ["a"]), ("u2", []), ("u3", [None])]) == {}
