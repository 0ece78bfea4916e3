from math import inf, nan

import numpy as np
import pytest

from llmrec_spark import score_profiles
from llmrec_spark.tables import RANKINGS
from tests.conftest import at
from tests.spark.rows import DAY, MIDNIGHT, NOON, ads_of, event, events_of, rows_of


def figures(table):
    """name -> (value, n)."""
    return {row.name: (row.value, row.n) for row in table.collect()}


def listed(spark, *rows):
    """RANKINGS of user_id, rank, ad_id and more."""
    named = [{"user_id": user, "rank": rank, "ad_id": ad, **more} for user, rank, ad, more in rows]
    return rows_of(spark, RANKINGS, *named)


def ids(spark, name, *values):
    return spark.createDataFrame([(value,) for value in values], f"{name} string")


def test_the_log_is_that_of_the_24_hours_before_the_day(spark):
    events = events_of(
        spark,
        event("1", "click", at("2026-02-27 23:59")),
        event("2", "click", at("2026-02-28 00:00"), position=1),
        event("3", "click", NOON),
        event("4", "impression", NOON, position=2),
        event("5", "search", NOON, ad_id=None),
        event("6", "click", MIDNIGHT),
    )
    found = figures(
        score_profiles.log_figures(
            events,
            before=DAY,
            types=["impression", "click", "hide"],
            filled={"position": ["impression", "click"], "value": ["purchase"], "query": ["search"]},
        )
    )
    assert found == {
        "rows.events": (4.0, 4),
        "rows.events.impression": (1.0, 1),
        "rows.events.click": (2.0, 2),
        "rows.events.hide": (0.0, 0),
        "null.position.impression": (0.0, 1),
        "null.position.click": (0.5, 2),
        "null.value.purchase": (None, 0),
        "null.query.search": (1.0, 1),
    }


def test_ads_are_new_where_no_event_names_them_and_a_text_of_blanks_is_none(spark):
    ads = ads_of(
        spark,
        {"ad_id": "a", "title": "A", "tags": ["x"], "description": "d"},
        {"ad_id": "b", "title": "B", "tags": [], "description": " "},
        {"ad_id": "c", "title": "C", "tags": None, "description": None},
        {"ad_id": "d", "title": "D", "tags": [" "], "description": "d"},
    )
    met = ids(spark, "ad_id", "a", "b", "gone", None)
    found = figures(score_profiles.ad_figures(ads, met, fields=["title", "tags", "description"]))
    assert found == {
        "new.ads": (0.5, 4),
        "null.title": (0.0, 4),
        "null.tags": (0.75, 4),
        "null.description": (0.5, 4),
    }


def test_lists_tell_new_users_and_the_commonest_first_ad(spark):
    ranked = listed(spark, *[(user, rank, ad, {}) for user, ads in LISTS.items() for rank, ad in enumerate(ads, 1)])
    found = figures(score_profiles.list_figures(ranked, ids(spark, "user_id", "u1", "u2", "gone")))
    assert found == {"new.users": (0.5, 4), "top.ad": (0.75, 4)}
    nothing = figures(score_profiles.list_figures(ranked.limit(0), ids(spark, "user_id")))
    assert nothing == {"new.users": (None, 0), "top.ad": (None, 0)}


LISTS = {"u1": "ab", "u2": "ac", "u3": "ab", "u4": "ba"}


def test_samples_are_of_known_finite_values_ascending_and_without_those_of_another_partitioning(spark):
    scores = [1.5, -2.0, nan, None, inf, 0.123456789, 1.5]
    rows = [(f"u{n}", 1, "a", {"score": score, "lift": 0.0}) for n, score in enumerate(scores)]
    ranked = listed(spark, *rows)
    [lift, score] = score_profiles.score_samples(ranked, rows=100).orderBy("name").collect()
    assert (score.name, score.n, score.sample) == ("values.score", 4, [-2.0, 0.123457, 1.5, 1.5])
    assert score.value == pytest.approx(1.123457 / 4, rel=1e-5)
    assert (lift.name, lift.n, lift.sample) == ("values.lift", 7, [0.0] * 7)
    few = [
        score_profiles.score_samples(table, rows=2).where("name = 'values.score'").collect()
        for table in (ranked, listed(spark, *rows[::-1]).repartition(5))
    ]
    assert few[0] == few[1]
    assert few[0][0].n == 2
    assert score_profiles.score_samples(ranked.limit(0), rows=2).collect() == []


def test_a_sample_is_of_the_rows_with_the_smallest_hash(spark):
    drawn = np.random.default_rng(5).normal(size=300).round(4)
    ranked = listed(spark, *[(f"u{n}", 1, f"a{n % 7}", {"score": float(v)}) for n, v in enumerate(drawn)])
    [row] = score_profiles.score_samples(ranked, rows=40).collect()
    in_order = ranked.selectExpr("score", "xxhash64(user_id, ad_id) AS place").orderBy("place").limit(40).collect()
    assert row.sample == pytest.approx(sorted(one.score for one in in_order))
