import pytest

from llmrec_spark.ad_quality import ad_quality
from tests.spark.rows import ads_of

GOOD = {"title": "Running shoes", "description": "Light.", "category": ["Sport"]}


def quality(spark, shown, negatives=(), ads=()):
    """ad_id -> row; shown: ad_id, impressions, clicks, conversions."""
    rows = [
        (ad, n < clicks, 1 if n < bought else 0)
        for ad, impressions, clicks, bought in shown
        for n in range(impressions)
    ]
    outcomes = spark.createDataFrame(rows, "ad_id string, clicked boolean, conversions bigint")
    disliked = spark.createDataFrame([(one,) for one in negatives], "ad_id string")
    return {row.ad_id: row for row in ad_quality(outcomes, disliked, ads_of(spark, *ads)).collect()}


def test_the_formula_is_the_one_of_its_description(spark):
    found = quality(
        spark,
        [("a", 90, 30, 6), ("b", 110, 10, 4)],
        ["b"] * 5,
        [{"ad_id": "a", **GOOD}, {"ad_id": "b", **GOOD}],
    )
    a, b = found["a"], found["b"]
    assert (a.impressions, a.clicks, a.conversions, a.negatives) == (90, 30, 6, 0)
    assert a.ctr == pytest.approx((30 + 10 * 0.2) / 100)
    assert a.cvr == pytest.approx((6 + 10 * 0.25) / 40)
    assert a.negative_rate == pytest.approx(10 * 0.025 / 100)
    assert a.quality == pytest.approx((a.ctr / 0.2) ** 0.5 * (a.cvr / 0.25) ** 0.5 * (a.negative_rate / 0.025) ** -0.5)
    assert b.quality < 1 < a.quality


def test_an_average_ad_with_a_text_in_order_has_quality_1(spark):
    found = quality(spark, [("a", 50, 5, 1), ("b", 50, 5, 1)], [], [{"ad_id": "a", **GOOD}, {"ad_id": "b", **GOOD}])
    assert [row.quality for row in found.values()] == pytest.approx([1.0, 1.0])


def test_a_day_without_clicks_or_dislikes_is_judged_by_its_texts(spark):
    assert quality(spark, [("a", 5, 0, 0)], [], [{"ad_id": "a", **GOOD}])["a"].quality == 1.0


@pytest.mark.parametrize(
    ("ad", "share"),
    [
        (GOOD, 1.0),
        (GOOD | {"title": "BUY NOW"}, 1.0),
        (GOOD | {"title": "CHEAP SHOES NOW"}, 0.8),
        (GOOD | {"title": "Shoes!!"}, 0.8),
        (GOOD | {"title": "新年跑鞋！！"}, 0.8),
        (GOOD | {"title": "新年跑鞋"}, 1.0),
        (GOOD | {"title": "x" * 91}, 0.8),
        (GOOD | {"description": " "}, 0.8),
        (GOOD | {"category": []}, 0.8),
        ({"title": None}, 0.0),
    ],
)
def test_text_quality_is_the_share_of_the_checks_that_hold(spark, ad, share):
    assert quality(spark, [("a", 1, 0, 0)], [], [{"ad_id": "a", **ad}])["a"].text_quality == pytest.approx(share)


def test_an_ad_without_a_record_has_no_text(spark):
    assert quality(spark, [("a", 1, 0, 0)])["a"].text_quality == 0.0
