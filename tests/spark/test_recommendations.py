import hashlib

import pytest

from llmrec_spark.config import AuditConfig, RankingConfig
from llmrec_spark.errors import AuditError
from llmrec_spark.recommendations import audit, list_counts, published_by, recommendations, refuse_bad_lists
from llmrec_spark.tables import RANKINGS, RECOMMENDATIONS
from tests.spark.rows import DAY, ads_of, rows_of, users_of

K = 4
RANKING = RankingConfig(max_per_user=K, max_per_advertiser=2, max_per_category=3)
AD_IDS = "abcdefgh"
SHARES = {"lists", "cold_share", "short_share"}
NAN, INFINITE = float("nan"), float("inf")


def reason(contribution, field="other"):
    return (None, None, field, contribution)


def row(user_id, rank, ad_id, score, **more):
    """A row of rankings that is in order."""
    return {
        "run_id": "r",
        "user_id": user_id,
        "rank": rank,
        "ad_id": ad_id,
        "score": score,
        "log_odds": score,
        "source": "personal",
        "reasons": [reason(score - 1.0, "title"), reason(1.0)],
        "model_version": "3",
    } | more


def good_lists():
    """Two whole lists and a short one of a new user."""
    lists = [row(user, rank, ad, -float(rank)) for user in "uv" for rank, ad in enumerate("abcd", 1)]
    return [*lists, row("w", 1, "a", -1.0, source="cold_start")]


def audited(spark, rows, **changed):
    """What the audit counts; advertisers stand for two ads each, a to d are of three categories."""
    live = [
        {"ad_id": ad, "advertiser_id": f"shop {n // 2}", "category": [f"kind {n % 3}"]} for n, ad in enumerate(AD_IDS)
    ]
    [found] = audit(
        rows_of(spark, RANKINGS, *rows),
        ads_of(spark, *changed.get("live", live)),
        spark.createDataFrame([("u", "h"), ("v", "g")], "user_id string, ad_id string"),
        users_of(spark, *[{"user_id": user} for user in "uvw"]),
        ranking=changed.get("ranking", RANKING),
    ).collect()
    return found.asDict()


def broken_checks(found):
    return {name: count for name, count in found.items() if name not in SHARES and count}


def test_good_lists_pass_every_check(spark):
    found = audited(spark, good_lists())
    assert broken_checks(found) == {}
    assert {name: found[name] for name in SHARES} == pytest.approx(
        {"lists": 3, "cold_share": 1 / 3, "short_share": 1 / 3}
    )


def test_no_lists_are_counted_as_none(spark):
    found = audited(spark, [])
    assert broken_checks(found) == {}
    assert {name: found[name] for name in SHARES} == {"lists": 0, "cold_share": 0.0, "short_share": 0.0}


TWICE = {"lists whose ranks are not 1 to n": 1, "lists out of order": 1}
BROKEN = {  # tag -> (changes of the list of u, by rank; the checks that fail, with how many)
    "an ad twice": ({2: {"ad_id": "a"}}, {"lists with an ad twice": 1}),
    "a gap": ({4: {"rank": 5}}, {"lists whose ranks are not 1 to n": 1}),
    "a rank twice": ({3: {"rank": 4}}, TWICE),
    "a rank twice in the middle": ({3: {"rank": 2}}, TWICE),
    "ranks from 0": ({1: {"rank": 0}}, {"lists whose ranks are not 1 to n": 1}),
    "no rank": ({4: {"rank": None}}, {"lists whose ranks are not 1 to n": 1, "lists out of order": 1}),
    "out of order": ({1: {"score": -3.0}}, {"lists out of order": 1}),
    "last out of order": ({4: {"score": -2.5}}, {"lists out of order": 1}),
    "not live": ({2: {"ad_id": "x"}, 3: {"ad_id": "y"}}, {"rows whose ad is not live": 2}),
    "no ad": ({2: {"ad_id": None}}, {"rows whose ad is not live": 1, "lists with an ad twice": 1}),
    "excluded": ({4: {"ad_id": "h"}}, {"rows of an excluded ad": 1}),
    "unknown user": ({rank: {"user_id": "x"} for rank in range(1, 5)}, {"rows of an unknown user": 4}),
    "NaN": ({1: {"score": NAN}}, {"rows without a finite score": 1}),
    "infinite": ({1: {"score": INFINITE}}, {"rows without a finite score": 1}),
    "no score": ({4: {"score": None}}, {"rows without a finite score": 1}),
    "wrong reasons": ({1: {"reasons": [reason(-0.9)]}}, {"rows whose reasons do not add up to log_odds": 1}),
    "NaN reasons": ({1: {"reasons": [reason(NAN)]}}, {"rows whose reasons do not add up to log_odds": 1}),
    "no reasons": ({1: {"reasons": None}}, {"rows whose reasons do not add up to log_odds": 1}),
    "no contribution": ({1: {"reasons": [reason(None)]}}, {"rows whose reasons do not add up to log_odds": 1}),
    "no log_odds": ({1: {"log_odds": None}}, {"rows whose reasons do not add up to log_odds": 1}),
}


@pytest.mark.parametrize("tag", BROKEN)
def test_the_audit_finds_what_is_wrong_and_nothing_else(spark, tag):
    changes, expected = BROKEN[tag]
    rows = [one | changes.get(one["rank"], {}) if one["user_id"] == "u" else one for one in good_lists()]
    assert broken_checks(audited(spark, rows)) == expected


def test_a_list_longer_than_k_is_found(spark):
    rows = [*good_lists(), row("u", 5, "e", -5.0)]
    assert broken_checks(audited(spark, rows)) == {"lists longer than K": 1}


def test_lists_over_a_cap_are_found(spark):
    def broken(**caps):
        return broken_checks(audited(spark, good_lists(), ranking=RANKING.model_copy(update=caps)))

    assert broken(max_per_advertiser=1) == {"lists over the advertiser cap": 2}
    assert broken(max_per_category=1) == {"lists over the category cap": 2}
    assert broken(max_per_advertiser=None, max_per_category=None) == {}


def test_ads_of_no_category_and_no_advertiser_are_under_no_cap(spark):
    live = [{"ad_id": ad, "category": [] if ad in "abc" else None} for ad in AD_IDS]
    ranking = RANKING.model_copy(update={"max_per_advertiser": 1, "max_per_category": 1})
    assert broken_checks(audited(spark, good_lists(), live=live, ranking=ranking)) == {}


def test_categories_are_the_same_only_if_their_phrases_are(spark):
    live = [{"ad_id": ad, "category": ["x, y"] if ad in "ab" else ["x", "y"]} for ad in "abcd"]
    ranking = RANKING.model_copy(update={"max_per_category": 2})
    assert broken_checks(audited(spark, good_lists(), live=live, ranking=ranking)) == {}


def test_scores_that_differ_in_the_seventh_digit_may_be_in_either_order(spark):
    rows = [row("u", 1, "a", -1.00000012), row("u", 2, "b", -1.0), row("v", 1, "a", -1.0001), row("v", 2, "b", -1.0)]
    assert broken_checks(audited(spark, rows)) == {"lists out of order": 1}


def test_lists_and_users_without_one_are_counted_by_reason(spark):
    lists = [("full", "personal")] * 2 + [("ruled", "personal"), ("few", "cold_start")]
    matched = [
        (user, ad) for user, ads in (("full", "abc"), ("ruled", "ab"), ("few", "a"), ("none", "ab")) for ad in ads
    ]
    [found] = list_counts(
        spark.createDataFrame([("full",), ("ruled",), ("few",), ("none",), ("unmatched",)], "user_id string"),
        spark.createDataFrame(lists, "user_id string, source string"),
        spark.createDataFrame(matched, "user_id string, ad_id string"),
        length=2,
    ).collect()
    assert found.asDict() == {
        "users": 5,
        "users_cold_start": 1,
        "users_without_list": 2,
        "short_lists_too_few_ads": 2,
        "short_lists_by_rules": 2,
    }


def test_nothing_is_refused_where_every_check_holds():
    refuse_bad_lists("r1", {"lists": 3, "cold_share": 0.5, "short_share": 1.0, "lists out of order": 0}, AuditConfig())


def test_the_refusal_names_the_run_each_failed_check_and_each_bound():
    found = {"lists": 3, "cold_share": 0.5, "short_share": 0.25, "lists out of order": 2, "rows of an excluded ad": 0}
    config = AuditConfig(min_users=4, max_cold_share=0.4, max_short_share=0.2)
    with pytest.raises(AuditError, match="run r1: nothing was published; lists out of order: 2; ") as refused:
        refuse_bad_lists("r1", found, config)
    assert "excluded" not in str(refused.value)
    for bound in ("audit.min_users", "audit.max_cold_share", "audit.max_short_share"):
        assert bound in str(refused.value)


def test_published_rows_have_the_layout_of_the_contract_sorted_by_bucket(spark):
    users = [f"user {n}" for n in range(40)]
    rows = [row(user, rank, f"ad {rank}", -float(rank)) for user in users for rank in (2, 1)]
    published = recommendations(rows_of(spark, RANKINGS, *rows), run_date=DAY)
    assert published.columns == [column.name for column in RECOMMENDATIONS.columns]
    parts = published.rdd.glom().collect()
    found = [(one.user_bucket, one.user_id, one.rank) for part in parts for one in part]
    buckets = {user: hashlib.md5(user.encode()).hexdigest()[:2] for user in users}
    assert found == sorted((buckets[user], user, rank) for user in users for rank in (1, 2))
    assert {one.run_date for part in parts for one in part} == {DAY}


def test_a_day_tells_the_run_and_model_behind_it(spark):
    published = recommendations(rows_of(spark, RANKINGS, *good_lists()), run_date=DAY)
    [found] = published_by(published, run_date=DAY).collect()
    assert (found.run_id, found.model_version) == ("r", "3")
    assert published_by(published, run_date=DAY.replace(day=2)).count() == 0
