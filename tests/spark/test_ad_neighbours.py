"""Which ads the same people act on."""

import math

import numpy as np
import pytest
from scipy.sparse import csr_array

from llmrec_spark.ad_neighbours import CONFIDENCE, FACTORS, PENALTY, RIDGE, ad_neighbours, least_squares
from llmrec_spark.tables import AD_NEIGHBOURS

HISTORIES = [
    ("u1", ["a", "b", "a"]),  # an ad counts once
    ("u2", ["a", "b", None]),  # a search
    ("u3", ["a", "c"]),
    ("u4", ["a", "c", "d"]),
    ("u5", ["e", "d"]),  # nobody else has both
    ("u6", []),
]


EACH = pytest.mark.parametrize("by", ["co_click", "ease", "als"])
COUNTED = pytest.mark.parametrize("by", ["co_click", "ease"])  # on few people, ALS says nothing of equal ads


def neighbours(spark, histories=HISTORIES, *, by="co_click", **how):
    rows = spark.createDataFrame(histories, "user_id string, ad_ids array<string>")
    found = ad_neighbours(rows, by=by, **{"most": 10, **how})
    assert set(found.columns) == {column.name for column in AD_NEIGHBOURS.columns} - {"run_id"}
    assert dict(found.dtypes)["similarities"] == "array<double>"
    return {row.ad_id: dict(zip(row.neighbours, row.similarities, strict=True)) for row in found.collect()}


def test_a_similarity_is_the_cosine_of_who_acted_on_either(spark):
    found = neighbours(spark, [*HISTORIES, ("u7", ["b"])])
    ab, ac = pytest.approx(2 / math.sqrt(4 * 3)), pytest.approx(2 / math.sqrt(4 * 2))
    assert found == {"a": {"c": ac, "b": ab}, "b": {"a": ab}, "c": {"a": ac}}
    assert list(found["a"]) == ["c", "b"]  # nearest first


def test_weights_of_ease_are_those_of_one_ridge_regression_an_ad(spark):
    rng = np.random.default_rng(5)
    has = rng.random((60, 6)) < np.linspace(0.2, 0.7, 6)
    has[:, 5] = has[:, 4] ^ (rng.random(60) < 0.1)
    has[:, 3] &= ~has[:, 0] | (np.cumsum(has[:, 0]) < 3)  # with few of the first ad's users
    histories = [(f"u{user}", [f"a{ad}" for ad in np.flatnonzero(own)]) for user, own in enumerate(has)]
    expected = {f"a{ad}": {} for ad in range(6)}
    for ad in range(6):
        others = [other for other in range(6) if other != ad]
        rest = has[:, others].astype(float)
        weights = np.linalg.solve(rest.T @ rest + PENALTY * np.eye(5), rest.T @ has[:, ad])
        for other, weight in zip(others, weights, strict=True):
            if weight > 0 and (has[:, ad] & has[:, other]).sum() >= 2:
                expected[f"a{other}"][f"a{ad}"] = pytest.approx(weight, abs=1e-6)
    found = neighbours(spark, histories, by="ease")
    assert found == {ad: near for ad, near in expected.items() if near}
    assert len(found["a0"]) < 5
    assert next(iter(found["a4"])) == "a5"


def test_als_finds_ads_near_that_people_of_one_taste_have(spark):
    rng = np.random.default_rng(3)
    tastes = ["x", "y"] * 30
    has = [(f"u{user}", [f"{taste}{ad}" for ad in rng.permutation(20)[:12]]) for user, taste in enumerate(tastes)]
    has += [(f"v{number}", ["x0", "y0", "y1"]) for number in range(3)]
    found = neighbours(spark, has, by="als", most=40)
    assert len(found) == 40
    for ad, near in found.items():
        assert all(0.0 < weight <= 1.0 for weight in near.values())
        assert list(near.values()) == sorted(near.values(), reverse=True)
        assert next(iter(near))[0] == ad[0]


def test_factors_of_als_are_those_of_a_weighted_ridge_regression_a_row():
    rng = np.random.default_rng(4)
    ones, factors = rng.random((5, 9)) < 0.3, rng.normal(size=(9, FACTORS))
    ones[2] = False
    found = least_squares(csr_array(ones.astype(float)), factors)
    for row, own in zip(found, ones, strict=True):
        root = np.sqrt(np.where(own, 1.0 + CONFIDENCE, 1.0))
        ridge = np.sqrt(RIDGE * max(own.sum(), 1)) * np.eye(FACTORS)
        design, wanted = np.vstack([root[:, None] * factors, ridge]), np.append(root * own, np.zeros(FACTORS))
        assert row == pytest.approx(np.linalg.lstsq(design, wanted)[0], abs=1e-9)


@COUNTED
def test_the_nearest_are_kept_and_equal_ones_by_their_id(spark, by):
    found = neighbours(spark, [(user, ["a", "b", "c", "d"]) for user in ("u1", "u2")], by=by, most=2)
    assert {ad: list(near) for ad, near in found.items()} == {
        "a": ["d", "c"],
        "b": ["d", "c"],
        "c": ["d", "b"],
        "d": ["c", "b"],
    }


def test_ease_compares_the_ads_with_most_users_and_of_equal_ones_the_smaller_ids(spark):
    histories = [(f"u{user}", ["a", "b", "c", "d"]) for user in range(3)] + [("u3", ["d", "c"])]
    found = neighbours(spark, histories, by="ease", ads=3)
    assert {ad: list(near) for ad, near in found.items()} == {"a": ["d", "c"], "c": ["d", "a"], "d": ["c", "a"]}


@EACH
def test_of_many_users_the_same_few_are_counted_however_rows_arrive(spark, by):
    many = [(f"u{number}", [f"a{number % 7}", f"a{number % 5}", f"a{number % 3}"]) for number in range(40)]
    found = neighbours(spark, many, by=by, users=20)
    assert neighbours(spark, many[::-1], by=by, users=20) == found != neighbours(spark, many, by=by)


@EACH
def test_nobody_beside_anybody_gives_no_row(spark, by):
    assert neighbours(spark, [("u1", ["a"]), ("u2", []), ("u3", [None])], by=by) == {}
    assert neighbours(spark, [("u1", []), ("u2", [None])], by=by) == {}
