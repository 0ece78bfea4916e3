from datetime import timedelta

import pytest

from llmrec_spark.ads import checked_ads, live_ads
from llmrec_spark.quarantine import accepted
from tests.conftest import session_time_zone
from tests.spark.rows import DAY, MIDNIGHT, ads_of, refused_by

NEXT_MIDNIGHT = MIDNIGHT + timedelta(days=1)
MOMENT = timedelta(microseconds=1)
TIMES = {  # tag -> starts_at, ends_at, whether the ad runs on DAY
    "always": (None, None, True),
    "started at the day's last moment": (NEXT_MIDNIGHT - MOMENT, None, True),
    "starts the next day": (NEXT_MIDNIGHT, None, False),
    "ends at the day's first moment": (None, MIDNIGHT + MOMENT, True),
    "ended at midnight": (None, MIDNIGHT, False),
    "within the day": (MIDNIGHT + timedelta(hours=9), MIDNIGHT + timedelta(hours=10), True),
    "over": (MIDNIGHT - timedelta(days=9), MIDNIGHT - timedelta(days=2), False),
}


@pytest.fixture(scope="module", params=["UTC", "Asia/Shanghai"])
def live(spark, request):
    rows = [{"ad_id": tag, "starts_at": starts, "ends_at": ends} for tag, (starts, ends, _) in TIMES.items()]
    with session_time_zone(spark, request.param):
        return {row.ad_id for row in live_ads(ads_of(spark, *rows), on=DAY).collect()}


@pytest.mark.parametrize("tag", TIMES)
def test_an_ad_is_live_from_its_start_to_its_end(live, tag):
    assert (tag in live) == TIMES[tag][2]


def test_an_ad_that_ends_before_it_starts_is_refused(spark):
    ads = ads_of(
        spark,
        {"ad_id": "backwards", "starts_at": MIDNIGHT, "ends_at": MIDNIGHT - MOMENT},
        {"ad_id": "instant", "starts_at": MIDNIGHT, "ends_at": MIDNIGHT},
        {"ad_id": "endless", "starts_at": MIDNIGHT},
    )
    assert refused_by(checked_ads(ads), "ad_id") == {
        "backwards": "ends_at before starts_at",
        "instant": None,
        "endless": None,
    }


def test_an_ad_without_an_id_is_refused(spark):
    assert refused_by(checked_ads(ads_of(spark, {"title": "nameless"})), "title") == {"nameless": "NULL ad_id"}


@pytest.mark.parametrize("partitions", [1, 5])
def test_of_doubled_ads_the_smallest_by_content_stays(spark, partitions):
    rows = [{"ad_id": "a", "title": title, "tags": [title]} for title in ("pears", "apples", "plums")]
    checked = checked_ads(ads_of(spark, *rows).repartition(partitions))
    assert refused_by(checked, "title") == {"apples": None, "pears": "doubled ad_id", "plums": "doubled ad_id"}


def test_an_ad_given_twice_alike_is_kept_once(spark):
    assert accepted(checked_ads(ads_of(spark, {"ad_id": "a"}, {"ad_id": "a"}))).count() == 1


def test_no_ads_give_no_ads(spark):
    assert live_ads(accepted(checked_ads(ads_of(spark))), on=DAY).count() == 0
