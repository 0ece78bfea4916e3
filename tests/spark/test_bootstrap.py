import numpy as np
import pytest

from llmrec_spark.bootstrap import Resampling, intervals, poisson_table, resampled_sums, user_weights

SUMS = "user_id string, slice string, scorer string, sums array<double>"


def user_sums(spark, rows, partitions=2):
    return spark.createDataFrame(rows, SUMS).repartition(partitions)


def test_the_table_of_weights_is_poisson_of_mean_one():
    counts = np.bincount(poisson_table().astype(int)) / 65_536
    assert counts[:5] == pytest.approx([0.367879, 0.367879, 0.18394, 0.061313, 0.015328], abs=2e-5)
    assert poisson_table().mean() == pytest.approx(1.0, abs=1e-4)


def test_weights_of_users_are_independent_of_each_other_and_of_the_replicate():
    weights = user_weights(np.arange(20_000, dtype=np.int64), 50, poisson_table())
    assert weights.shape == (51, 20_000)
    assert (weights[0] == 1).all()
    assert weights[1:].mean() == pytest.approx(1.0, abs=0.005)
    assert weights[1:].var() == pytest.approx(1.0, abs=0.01)
    between = np.corrcoef(weights[1:])
    assert abs(between[~np.eye(50, dtype=bool)]).max() < 0.04  # 5 standard errors of 1 / sqrt(20,000)


def test_how_often_a_user_counts_depends_on_nobody_else():
    hashes = np.array([5, -7, 123_456_789_012_345], dtype=np.int64)
    together, alone = user_weights(hashes, 10, poisson_table()), user_weights(hashes[1:2], 10, poisson_table())
    assert (together[:, 1:2] == alone).all()


def test_estimates_are_ratios_of_sums_and_totals(spark):
    rows = [("u", "all", "a", [1.0, 2.0, 5.0]), ("v", "all", "a", [2.0, 4.0, 1.0]), ("w", "all", "a", [0.0, 0.0, 0.0])]
    found = intervals(user_sums(spark, rows), ratios=["r"], totals=["t"], resampling=Resampling(20, 1)).collect()
    assert {row.metric: (row.value, row.n) for row in found} == {"r": (0.5, 2), "t": (6.0, 2)}


def test_a_ratio_over_nothing_is_null(spark):
    [row] = intervals(
        user_sums(spark, [("u", "all", "a", [0.0, 0.0])]), ratios=["r"], resampling=Resampling(20, 1)
    ).collect()
    assert (row.value, row.low, row.high, row.n) == (None, None, None, 0)


def test_no_users_give_no_rows(spark):
    assert intervals(user_sums(spark, []), ratios=["r"], resampling=Resampling(20, 1)).count() == 0


def random_rows(users, seed):
    rng = np.random.default_rng(seed)
    level = rng.normal(0.3, 0.1, users)
    rows = []
    for user in range(users):
        for scorer, lift in (("a", 0.05), ("b", 0.0)):
            for slice_name in ("all", f"x={user % 2}"):
                rows.append((f"u{user}", slice_name, scorer, [float(level[user] + lift), 1.0]))
    return rows


def table(frame):
    return {(r["slice"], r.scorer, r.metric): (r.value, r.low, r.high, r.n) for r in frame.collect()}


def test_partitions_and_the_order_of_rows_change_nothing(spark):
    rows = random_rows(60, 1)
    kwargs = {"ratios": ["r"], "pairs": [("a", "b")], "resampling": Resampling(30, 3)}
    once = table(intervals(user_sums(spark, rows, 1), **kwargs))
    assert table(intervals(user_sums(spark, rows[::-1], 7), **kwargs)) == once
    assert table(intervals(user_sums(spark, rows, 1), **kwargs | {"resampling": Resampling(30, 4)})) != once


def test_sums_that_count_in_several_slices_count_in_each(spark):
    rows = [("u", ["all", "x=1"], "a", [1.0, 2.0]), ("v", ["all"], "a", [1.0, 1.0]), ("w", [], "a", [5.0, 5.0])]
    once = spark.createDataFrame(rows, SUMS.replace("slice string", "slices array<string>"))
    each = [(user, name, scorer, sums) for user, slices, scorer, sums in rows for name in slices]
    kwargs = {"ratios": ["r"], "resampling": Resampling(20, 1)}
    assert table(intervals(once, **kwargs)) == table(intervals(user_sums(spark, each), **kwargs))


def test_a_difference_is_paired(spark):
    found = table(
        intervals(user_sums(spark, random_rows(60, 2)), ratios=["r"], pairs=[("a", "b")], resampling=Resampling(40, 1))
    )
    value, low, high, n = found["all", "a - b", "r"]
    assert (value, low, high, n) == pytest.approx((0.05, 0.05, 0.05, 60))  # the users' own level drops out
    assert found["x=0", "a", "r"][3] == 30


def test_a_replicate_is_the_weighted_sum_of_the_users(spark):
    rows = random_rows(40, 5)
    parts = resampled_sums(user_sums(spark, rows), resampling=Resampling(12, 9)).where("slice = 'all' AND scorer = 'a'")
    summed = sum(np.frombuffer(row["sums"]).reshape(13, 2) for row in parts.collect())
    hashed = spark.createDataFrame(rows, SUMS).where("slice = 'all' AND scorer = 'a'")
    hashed = hashed.selectExpr("xxhash64(user_id, 9) AS h", "sums").collect()
    weights = user_weights(np.array([row.h for row in hashed]), 12, poisson_table())
    assert summed == pytest.approx(weights @ np.array([row["sums"] for row in hashed]), abs=1e-9)
