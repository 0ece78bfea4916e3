import hashlib

import numpy as np
import pytest
from pyspark.sql import functions as F

from llmrec_spark.backgrounds import backgrounds, block_sums, sample_histories
from llmrec_spark.config import MatchConfig
from tests.bridge.shops import shop_of
from tests.model.catalogues import Behaviour, simple_world, unit

FOUR_BLOCKS = MatchConfig(block_ads=7)


def computed(spark, shop, sample, match=FOUR_BLOCKS, *, partitions=1):
    """ad_id -> (background, sigma), one row for each live ad."""
    live = spark.createDataFrame([(ad,) for ad in shop.world.live], "ad_id string")
    sums = block_sums(sample, catalogue=shop.folder, live_ads=len(shop.world.live), match=match)
    rows = backgrounds(sums, live.repartition(partitions)).collect()
    assert sorted(row.ad_id for row in rows) == sorted(shop.world.live)
    return {row.ad_id: (row.background, row.sigma) for row in rows}


def slow_backgrounds(matched, users):
    """The same by numpy, of these users of a twin's matches."""
    ads = sorted(next(iter(matched.values())))
    matches = np.array([[matched[user][ad] for ad in ads] for user in users])
    matches = matches[np.isfinite(matches).any(axis=1)]
    background = matches.mean(axis=0)  # NaN for an ad without text
    return dict(zip(ads, background, strict=True)), float(np.nanstd(matches - background))


def assert_equal(found, slow):
    background, sigma = slow
    for ad, (of_ad, spread) in found.items():
        assert of_ad == (None if np.isnan(background[ad]) else pytest.approx(background[ad], abs=1e-6))
        assert spread == pytest.approx(sigma, abs=1e-6)


@pytest.mark.parametrize("block_ads", [7, 1_024])
def test_background_is_the_mean_match_and_sigma_the_spread_around_it(spark, shop, block_ads):
    found = computed(spark, shop, shop.histories(spark), MatchConfig(block_ads=block_ads))
    assert_equal(found, slow_backgrounds(shop.slow, list(shop.slow)))
    assert found["ad000"][0] is None  # it has no text


def test_the_uniform_form_has_backgrounds_of_its_own(spark, shop):
    found = computed(spark, shop, shop.histories(spark), MatchConfig(block_ads=7, form="uniform"))
    assert_equal(found, slow_backgrounds(shop.slow_uniform, list(shop.slow)))


def test_a_sample_is_of_the_smallest_md5(spark, shop):
    histories = shop.histories(spark)
    by_md5 = sorted((row.user_id for row in histories.collect()), key=lambda user: hashlib.md5(user.encode()).digest())
    sample = sample_histories(histories.orderBy(F.rand(1)), users=9)
    assert sorted(row.user_id for row in sample.collect()) == sorted(by_md5[:9])
    assert_equal(computed(spark, shop, sample), slow_backgrounds(shop.slow, by_md5[:9]))


def test_a_sample_larger_than_the_users_is_everyone(spark, shop):
    histories = shop.histories(spark)
    assert sample_histories(histories, users=1_000).count() == histories.count()


def test_the_order_and_partitions_of_the_rows_change_no_bit(spark, shop):
    histories = shop.histories(spark)
    shuffled = histories.orderBy(F.rand(1)).repartition(5)
    found = computed(spark, shop, shuffled, partitions=3)
    assert found == computed(spark, shop, histories.coalesce(1))


@pytest.mark.parametrize(("behaved", "users"), [([], [None]), (["a"], [[Behaviour("unknown")], []])])
def test_where_nobody_has_a_usable_history_nothing_is_known_of_any_ad(spark, tmp_path, behaved, users):
    world = simple_world({ad: {"title": unit(1, 2)} for ad in "abc"}, behaved=behaved)
    shop = shop_of(tmp_path, world, users)
    found = computed(spark, shop, shop.histories(spark), MatchConfig(block_ads=2))
    assert found == dict.fromkeys("abc", (None, None))


def test_where_no_ad_has_a_text_nothing_is_known_of_any_ad(spark, tmp_path):
    shop = shop_of(tmp_path, simple_world({"a": {}, "b": {}}), [[Behaviour("a")]])
    assert computed(spark, shop, shop.histories(spark)) == {"a": (None, None), "b": (None, None)}


def test_one_user_has_no_spread(spark, tmp_path):
    world = simple_world({"a": {"title": unit(1, 0)}, "b": {"title": unit(3, 4)}})
    shop = shop_of(tmp_path, world, [[Behaviour("a")]])
    found = computed(spark, shop, shop.histories(spark), MatchConfig(block_ads=1))
    assert found["a"] == (pytest.approx(0.6, abs=1e-6), 0.0)  # 1 - lambda is .6
    assert found["b"] == (pytest.approx(0.6 * 0.6, abs=1e-6), 0.0)
