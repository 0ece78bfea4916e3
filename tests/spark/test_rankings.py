import pytest
from pyspark.sql import functions as F

from llmrec_spark.matches import match_requests, significant
from llmrec_spark.rankings import ad_groups, matched_ads
from tests.spark.rows import ads_of

MATCHED = "user_id string, ad_id string, match double, background double, rate double, lift double, score double"
EXCLUDED = "user_id string, ad_id string"


def groups_of(spark, *ads):
    found = ad_groups(ads_of(spark, *[{"ad_id": f"a{n}"} | ad for n, ad in enumerate(ads)])).collect()
    return [row for _, row in sorted((row.ad_id, row) for row in found)]


def test_ads_of_one_advertiser_and_of_one_category_share_a_group(spark):
    a, b, c = groups_of(
        spark,
        {"advertiser_id": "x", "category": ["shoes", "men"]},
        {"advertiser_id": "x", "category": ["shoes", "men"]},
        {"advertiser_id": "y", "category": ["shoes, men"]},
    )
    assert a.advertiser == b.advertiser != c.advertiser
    assert a.category == b.category != c.category


def test_near_duplicates_have_one_title_but_for_case_and_spacing_and_one_advertiser(spark):
    a, b, c, d = groups_of(
        spark,
        {"advertiser_id": "x", "title": "Trail Shoes"},
        {"advertiser_id": "x", "title": " trail  SHOES"},
        {"advertiser_id": "y", "title": "Trail Shoes"},
        {"advertiser_id": "x", "title": "Trail Shoe"},
    )
    assert a.duplicate == b.duplicate
    assert len({a.duplicate, c.duplicate, d.duplicate}) == 3


def test_what_is_unknown_or_empty_is_no_group(spark):
    nothing, titled, empty, untitled = groups_of(
        spark,
        {},
        {"title": "Trail shoes"},
        {"advertiser_id": "x", "title": " ", "category": []},
        {"advertiser_id": "x"},
    )
    assert (nothing.advertiser, nothing.category, nothing.duplicate) == (None, None, None)
    assert titled.duplicate is None
    assert (empty.category, empty.duplicate, untitled.duplicate) == (None, None, None)


def matched(user_id, ad_id, score, lift=0.0, match=0.5):
    return (user_id, ad_id, match, 0.1, 0.5, lift, score)


def found_of(spark, *rows, excluded=(), partitions=1):
    """user_id -> the ads of matched_ads by id; log_odds is the lift."""
    found = matched_ads(
        spark.createDataFrame(list(rows), MATCHED).withColumn("log_odds", F.col("lift")).repartition(partitions),
        spark.createDataFrame(list(excluded), EXCLUDED),
        tasks=partitions,
    )
    names = ("score", "log_odds", "match", "rate", "lift")
    return {
        row.user_id: {ad: figures for ad, *figures in zip(row.listed, *(row[name] for name in names), strict=True)}
        for row in found.collect()
    }


@pytest.mark.parametrize("partitions", [1, 5])
def test_the_figures_of_an_ad_stay_with_it(spark, partitions):
    rows = [
        matched("u", "a", 1.0, lift=0.2, match=None),
        matched("u", "b", 2.0, lift=0.1),
        matched("v", "a", 3.0, lift=0.3),
    ]
    found = found_of(spark, *rows, partitions=partitions)
    assert found["u"]["a"] == [1.0, pytest.approx(0.2), None, 0.5, 0.2]
    assert found["u"]["b"] == [2.0, pytest.approx(0.1), 0.5, 0.5, 0.1]
    assert found["v"]["a"] == [3.0, pytest.approx(0.3), 0.5, 0.5, 0.3]


def test_excluded_ads_and_ads_without_a_finite_score_are_left_out(spark):
    scores = {"a": None, "b": float("nan"), "c": 1.0, "d": 0.5, "e": float("inf"), "f": float("-inf")}
    rows = [matched(user, ad, score) for user in "uv" for ad, score in scores.items()]
    found = found_of(spark, *rows, excluded=[("u", "c"), ("w", "d")])
    assert {user: sorted(ads) for user, ads in found.items()} == {"u": ["d"], "v": ["c", "d"]}


def test_a_user_whose_ads_are_all_excluded_has_no_row(spark):
    assert found_of(spark, matched("u", "a", 1.0), excluded=[("u", "a")]) == {}
    assert found_of(spark) == {}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1234567.0, 1234570.0),
        (-0.00012345678, -0.000123457),
        (999999.7, 1000000.0),
        (1e-300, 1e-300),
        (0.0, 0.0),
        (None, None),
    ],
)
def test_a_double_is_rounded_to_six_significant_digits(spark, value, expected):
    [row] = spark.createDataFrame([(value,)], "v double").select(significant(F.col("v")).alias("v")).collect()
    assert row.v == (None if expected is None else pytest.approx(expected, rel=1e-12))


USERS, HISTORIES = (
    "user_id string",
    (
        "user_id string, ad_ids array<string>, query_hashes array<string>, event_types array<string>, "
        "log_priors array<double>"
    ),
)


def requests(spark, excluded=(), given=None):
    found = match_requests(
        spark.createDataFrame([("u",), ("new",)], USERS),
        spark.createDataFrame(
            [("u", ["a"], [None], ["click"], [0.0]), ("gone", ["a"], [None], ["x"], [0.0])], HISTORIES
        ),
        spark.createDataFrame(list(excluded), EXCLUDED),
        None if given is None else spark.createDataFrame(given, EXCLUDED),
    ).collect()
    return {row.user_id: row for row in found}


def test_every_user_is_asked_for_with_history_and_exclusions(spark):
    found = requests(spark, excluded=[("u", "x"), ("u", "y"), ("gone", "z")])
    assert set(found) == {"u", "new"}
    assert (found["u"].ad_ids, sorted(found["u"].excluded), found["u"].candidates) == (["a"], ["x", "y"], None)
    assert (found["new"].ad_ids, found["new"].excluded, found["new"].candidates) == (None, None, None)


def test_with_candidates_only_users_who_were_given_some_are_asked_for(spark):
    found = requests(spark, excluded=[("new", "b")], given=[("new", "c"), ("new", "b"), ("new", "c"), ("other", "a")])
    assert {user: (row.candidates, row.excluded) for user, row in found.items()} == {"new": (["b", "c"], None)}
