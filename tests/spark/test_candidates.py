from datetime import date

import pytest

from llmrec_spark.candidates import checked_candidates, checked_users, scored_users
from llmrec_spark.quarantine import accepted
from tests.spark.rows import DAY, ads_of, candidates_of, event, events_of, refused_by, users_of

OTHER_DAY = date(2026, 3, 2)


def user(user_id, consent=None):
    return {"user_id": user_id, "consent": consent}


def pair(user_id, ad_id, on=None):
    return {"user_id": user_id, "ad_id": ad_id, "date": on}


def check(spark, *pairs, partitions=1):
    ads = ads_of(spark, {"ad_id": "a"}, {"ad_id": "b"}, {"ad_id": "over"})
    given = candidates_of(spark, *pairs).repartition(partitions)
    return checked_candidates(given, ads, ads.where("ad_id <> 'over'"), on=DAY)


@pytest.mark.parametrize(("has_consent", "of_null"), [(True, False), (False, True)])
def test_unknown_consent_is_none_unless_the_table_does_not_ask(spark, has_consent, of_null):
    checked = checked_users(
        users_of(spark, user("yes", True), user("no", False), user("null")), has_consent=has_consent
    )
    assert {row.user_id: row.consent for row in checked.collect()} == {"yes": True, "no": False, "null": of_null}


@pytest.mark.parametrize("partitions", [1, 5])
def test_of_a_doubled_user_the_row_without_consent_stays(spark, partitions):
    rows = [user("u", True), user("u", False), user("u", True), user(None, True)]
    checked = checked_users(users_of(spark, *rows).repartition(partitions), has_consent=True)
    assert [(row.user_id, row.consent) for row in accepted(checked).collect()] == [("u", False)]
    assert sorted(row.refused for row in checked.where("refused IS NOT NULL").collect()) == [
        "NULL user_id",
        "doubled user_id",
        "doubled user_id",
    ]


def test_everyone_in_users_is_scored_and_no_one_else(spark):
    events = events_of(spark, event("e", user_id="met"))
    found = scored_users(
        users_of(spark, user("u", False), user("v", True)), events, candidates_of(spark, pair("w", "a"))
    )
    assert sorted(row.user_id for row in found.collect()) == ["u", "v"]


def test_without_users_everyone_of_the_log_and_the_candidates_is_scored_once(spark):
    events = events_of(spark, event("e1"), event("e2"), event("e3", user_id="v"))
    assert sorted(row.user_id for row in scored_users(None, events, None).collect()) == ["u", "v"]
    given = candidates_of(spark, pair("w", "a"), pair("v", "a"))
    assert sorted(row.user_id for row in scored_users(None, events, given).collect()) == ["u", "v", "w"]


def test_pairs_are_refused_with_their_reason(spark):
    checked = check(
        spark,
        pair("u1", "a"),
        pair("u2", "over"),
        pair("u3", "gone"),
        pair("u4", None),
        pair(None, "a"),
        pair(None, None),
    )
    found = {(row.user_id, row.ad_id): row.refused for row in checked.collect()}
    assert found == {
        ("u1", "a"): None,
        ("u2", "over"): "ad not live",
        ("u3", "gone"): "unknown ad_id",
        ("u4", None): "NULL ad_id",
        (None, "a"): "NULL user_id",
        (None, None): "NULL user_id",
    }


def test_pairs_of_other_days_are_neither_used_nor_refused(spark):
    checked = check(spark, pair("today", "a", DAY), pair("any day", "a"), pair("other day", "a", OTHER_DAY))
    assert refused_by(checked, "user_id") == {"today": None, "any day": None}


@pytest.mark.parametrize("partitions", [1, 5])
def test_a_pair_given_twice_is_used_once(spark, partitions):
    pairs = [pair("u", "a", DAY), pair("u", "a"), pair("u", "b"), pair("u", "a", OTHER_DAY)]
    checked = check(spark, *pairs, partitions=partitions)
    assert sorted((row.ad_id, row.refused or "") for row in checked.collect()) == [
        ("a", ""),
        ("a", "doubled user_id, ad_id"),
        ("b", ""),
    ]


def test_no_candidates_and_no_users_stay_none(spark):
    assert check(spark).count() == 0
    assert checked_users(users_of(spark), has_consent=True).count() == 0
    assert scored_users(None, events_of(spark), candidates_of(spark)).count() == 0
