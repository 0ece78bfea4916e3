import numpy as np
import pytest
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from llmrec_spark.bootstrap import Resampling
from llmrec_spark.reliability import (
    bin_sums,
    exact_auc,
    prediction_counts,
    predictions,
    probability_intervals,
    reliability_table,
    with_other_run,
)

PREDICTED = "user_id string, scorer string, predicted double, clicked boolean"


def random_rows(n, seed, scorer="rate"):
    """Calibrated predictions of users, rounded so that some tie."""
    rng = np.random.default_rng(seed)
    p = np.round(rng.beta(2, 8, n), 3) + 0.001
    return [
        (f"u{i % 97}", scorer, float(a), bool(b)) for i, (a, b) in enumerate(zip(p, rng.random(n) < p, strict=True))
    ]


def metrics_of(spark, rows, partitions=2):
    predicted = spark.createDataFrame(rows, PREDICTED).repartition(partitions)
    counts = prediction_counts(predicted)
    found = probability_intervals(
        bin_sums(predicted, counts), exact_auc(counts), resampling=Resampling(100, 1)
    ).collect()
    return {(row.scorer, row.metric): row for row in found}


@pytest.mark.parametrize("partitions", [1, 6])
def test_metrics_over_all_rows_agree_with_scikit_learn(spark, partitions):
    rows = random_rows(2_000, 5)
    found = metrics_of(spark, rows, partitions)
    p, clicked = np.array([row[2] for row in rows]), np.array([row[3] for row in rows])
    assert found["rate", "log_loss"].value == pytest.approx(log_loss(clicked, p), abs=1e-6)
    assert found["rate", "brier"].value == pytest.approx(brier_score_loss(clicked, p), abs=1e-6)
    assert found["rate", "auc"].value == pytest.approx(roc_auc_score(clicked, p), abs=1e-6)
    assert found["rate", "calibration_error"].value < 0.05
    assert all(
        row.low <= row.value <= row.high and row.n == 2_000
        for row in found.values()
        if row.metric != "calibration_error"
    )


def test_bins_are_of_equal_size_and_show_what_was_observed(spark):
    rows = [(f"u{i}", "rate", (i + 1) / 3001, i % 10 == 0) for i in range(3_000)]
    predicted = spark.createDataFrame(rows, PREDICTED)
    sums = bin_sums(predicted, prediction_counts(predicted))
    table = sorted(reliability_table(sums, resampling=Resampling(40, 1)).collect(), key=lambda row: row.bin)
    assert [row.bin for row in table] == list(range(1, 16))
    assert {row.n for row in table} == {200}
    assert [row.observed for row in table] == pytest.approx([0.1] * 15)
    assert [row.predicted for row in table] == sorted(row.predicted for row in table)
    assert all(row.low <= row.observed <= row.high for row in table)


def test_equal_predictions_share_a_bin(spark):
    predicted = spark.createDataFrame([(f"u{i}", "rate", 0.2, i < 3) for i in range(50)], PREDICTED)
    sums = bin_sums(predicted, prediction_counts(predicted))
    [row] = reliability_table(sums, resampling=Resampling(20, 1)).collect()
    assert (row.n, row.observed, row.predicted) == (50, pytest.approx(0.06), pytest.approx(0.2))


def test_without_clicks_there_is_no_auc_and_without_rows_nothing(spark):
    found = metrics_of(spark, [("u", "rate", 0.2, False), ("v", "rate", 0.3, False)])
    assert found["rate", "auc"].value is None
    assert found["rate", "brier"].value == pytest.approx(0.065)
    assert metrics_of(spark, []) == {}


def test_what_is_predicted_is_at_the_first_position(spark):
    shown = [("u", "a", 1, True), ("u", "b", 2, True), ("v", "a", None, False), ("w", "a", 1, False)]
    outcomes = spark.createDataFrame(shown, "user_id string, ad_id string, position int, clicked boolean")
    listed = spark.createDataFrame(
        [("u", "a", 0.0, None), ("u", "b", 1.0, None), ("w", "a", 0.0, 0.25)],
        "user_id string, ad_id string, log_odds double, p_click double",
    )
    rates = spark.createDataFrame([("a", 0.125), ("b", 0.5)], "ad_id string, rate double")
    found = predictions(outcomes, listed, rates).collect()
    assert sorted((row.user_id, row.scorer, row.predicted, row.clicked) for row in found) == [
        ("u", "rate", 0.125, True),
        ("u", "score", 0.5, True),
        ("v", "rate", 0.125, False),
        ("w", "p_click", 0.25, False),
        ("w", "rate", 0.125, False),
        ("w", "score", 0.5, False),
    ]


def test_of_another_run_only_its_p_click_is_judged_beside_the_run(spark):
    of_run = spark.createDataFrame([("u", "p_click", 0.25, True), ("u", "rate", 0.5, True)], PREDICTED)
    of_other = spark.createDataFrame([("u", "p_click", 0.75, True), ("u", "rate", 0.5, True)], PREDICTED)
    found = with_other_run(of_run, of_other, "b7").select("scorer", "predicted").collect()
    assert sorted(map(tuple, found)) == [("p_click", 0.25), ("p_click of b7", 0.75), ("rate", 0.5)]
    none = with_other_run(of_run, of_other.where("scorer = 'rate'"), "b7")
    assert none.collect() == of_run.collect()
