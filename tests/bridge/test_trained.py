"""A trained ranker through the stages of a day: tastes, matches of all ads and of given ones, lists with reasons."""

from datetime import UTC, date, datetime

import numpy as np
import pandas as pd
import pytest
from pyspark.errors import PythonException
from pyspark.sql import functions as F

from llmrec_spark.config import MatchConfig, RankingConfig, ValueConfig
from llmrec_spark.matches import match_requests, matches, with_tastes
from llmrec_spark.model.catalogue import open_catalogue, save_figures
from llmrec_spark.model.taste_reranking import reranked
from llmrec_spark.model.taste_scoring import TrainedAds
from llmrec_spark.network_config import NetworkConfig, TrainingSettings
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.rankings import matched_ads, rankings
from llmrec_spark.tables import SEQUENCES, TASTES
from llmrec_spark.tastes import tastes
from tests.model.catalogues import simple_world, unit
from tests.model.two_kinds import learn_kinds, text_of_kinds

ADS = [f"ad{number:02d}" for number in range(12)]  # even ones are of one kind, odd ones of another
NOON = datetime(2026, 2, 20, 12, tzinfo=UTC)
USERS = ["likes_even", "likes_odd", "only_skips", "new"]
RANKING = RankingConfig(max_per_advertiser=None, max_per_category=None, max_per_user=4)
PER_CONVERSION = ValueConfig(pricing="per_conversion")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The catalogue of a run with a ranker that learned from 60 lists of people who click one kind."""
    return run_folder(tmp_path_factory)


@pytest.fixture(scope="module")
def reranking(tmp_path_factory):
    """The same with a reranker."""
    return run_folder(tmp_path_factory, rerank=("linear", "trees", "network"), learning=TrainingSettings(epochs=1))


@pytest.fixture(scope="module")
def reading(tmp_path_factory):
    """The same with a network that reads the clicks of a history as one text, and its skips."""
    network = {"network": NetworkConfig(behaviours="text"), "learning": TrainingSettings(epochs=1)}
    return run_folder(tmp_path_factory, rerank=("linear", "network"), **network)


def run_folder(tmp_path_factory, **more):
    world = simple_world({ad: {"title": unit(1 if n % 2 else -1, 0.1 * n)} for n, ad in enumerate(ADS)})
    folder = tmp_path_factory.mktemp("trained")
    catalogue = world.catalogue()
    catalogue.save(folder / "run")
    counts = learn_kinds(world, RankerConfig(text_rank=4, kernel_lists=160, **more), folder / "ranker")
    save_figures(folder / "run", catalogue, counts, ranker=folder / "ranker", columns=[])
    return folder / "run", world


@pytest.fixture(scope="module")
def liked(spark, folder):
    return tastes_of_users(spark, folder)


def tastes_of_users(spark, folder):
    """The tastes of the users, as `sequences` would have their histories."""
    of_users = {
        "likes_even": (ADS[:6:2], ADS[1:6:2]),
        "likes_odd": (ADS[1:6:2], ADS[:6:2]),
        "only_skips": ([], ADS[:4:2]),
    }
    rows = [
        (
            *("run", user, clicked, [None] * len(clicked), ["click"] * len(clicked), [NOON] * len(clicked)),
            *([1] * len(clicked), [], skipped, [NOON] * len(skipped)),
        )
        for user, (clicked, skipped) in of_users.items()
    ]
    kinds = SEQUENCES.ddl.rsplit(",", 1)[0]
    history = spark.createDataFrame(rows, kinds).withColumn("skipped_positions", F.array().cast("array<int>"))
    found = tastes(history, as_of=date(2026, 3, 1), clicks=["click"], catalogue=str(folder[0]), tasks=2)
    assert set(found.columns) == {column.name for column in TASTES.columns} - {"run_id"}
    return found.persist()


def figures():
    price = np.where(np.arange(len(ADS)) == 5, np.nan, 1.0 + np.arange(len(ADS)))
    return pd.DataFrame({"ad_id": ADS, "rate": 0.3, "background": 0.1, "sigma": 0.2, "price": price})


def scored(spark, folder, liked, *, given=None, ranking=RANKING, value=PER_CONVERSION, reranked=None):
    """user_id, ad_id -> the row of `matches`."""
    users = spark.createDataFrame([(user,) for user in USERS], "user_id string")
    nobody = spark.createDataFrame(
        [], "user_id string, ad_ids array<string>, query_hashes array<string>, event_types array<string>, "
        "log_priors array<double>",
    )  # fmt: skip
    none = spark.createDataFrame([], "user_id string, ad_id string")
    candidates = None if given is None else spark.createDataFrame(given, "user_id string, ad_id string")
    requests = match_requests(users, nobody, none, candidates, liked)
    return matches(
        requests,
        figures(),
        catalogue=str(folder[0]),
        match=MatchConfig(block_ads=5),
        ranking=ranking,
        value=value,
        direct=given is not None,
        keep=None if given is not None else 20,
        tasks=2,
        reranked=reranked,
    )


def by_pair(rows):
    return {(row.user_id, row.ad_id): row for row in rows.collect()}


def test_everyone_is_scored_and_shown_the_kind_they_click(spark, folder, liked):
    found = by_pair(scored(spark, folder, liked))
    assert len(found) == len(USERS) * len(ADS)
    for user, kind in (("likes_even", 0), ("likes_odd", 1)):
        best = sorted(ADS, key=lambda ad: -found[user, ad].score)[:4]
        assert {int(ad[2:]) % 2 for ad in best} == {kind}
    assert all(row.score == row.log_odds for row in found.values())


def test_given_candidates_have_the_scores_they_have_among_all_ads(spark, folder, liked):
    pairs = [(user, ad) for user in USERS for ad in ADS[3:6]]
    given, every = by_pair(scored(spark, folder, liked, given=pairs)), by_pair(scored(spark, folder, liked))
    assert set(given) == set(pairs)
    for pair, row in given.items():
        assert row.log_odds == pytest.approx(every[pair].log_odds, abs=1e-5)


def test_a_new_user_is_ordered_by_the_effects_of_the_ads(spark, folder, liked):
    found, ads = by_pair(scored(spark, folder, liked)), TrainedAds(str(folder[0]))
    expected = ads.ranker.level.mean + ads.first_position + ads.effects[0]
    assert [found["new", ad].log_odds for ad in ADS] == pytest.approx(expected.tolist())


def lists(spark, folder, liked, **options):
    none = spark.createDataFrame([], "user_id string, ad_id string")
    found = rankings(
        matched_ads(scored(spark, folder, liked, **options), none, tasks=2),
        spark.createDataFrame([], "user_id string, ad_ids array<string>, query_hashes array<string>, "
                              "event_types array<string>, log_priors array<double>"),
        np.full((len(ADS), 3), -1, dtype=np.int32),
        figures(),
        catalogue=str(folder[0]),
        fields=folder[1].fields,
        match=MatchConfig(),
        ranking=options.get("ranking", RANKING),
        value=options.get("value", PER_CONVERSION),
        model_version="7",
        tastes=liked,
    )  # fmt: skip
    return found.orderBy("user_id", "rank").collect()


def test_lists_have_probabilities_values_and_reasons_that_add_up(spark, folder, liked):
    found, ads = lists(spark, folder, liked), TrainedAds(str(folder[0]))
    price = figures().set_index("ad_id")["price"]
    assert {row.user_id for row in found} == set(USERS)
    for row in found:
        assert sum(one.contribution for one in row.reasons) == pytest.approx(row.log_odds, abs=1e-6)
        assert [one.field for one in row.reasons][-3:] == ["effect", "level", "other"]
        assert abs(row.reasons[-1].contribution) < 2.0
        assert row.p_click == pytest.approx(float(ads.ranker.clicks(np.array(row.log_odds))))
        assert 0 < row.p_conversion < 1
        value = None if np.isnan(price[row.ad_id]) else pytest.approx(row.p_click * row.p_conversion * price[row.ad_id])
        assert row.expected_value == value
    assert {row.source for row in found if row.user_id == "new"} == {"cold_start"}
    assert {row.source for row in found if row.user_id == "only_skips"} == {"personal"}
    first = next(row for row in found if row.user_id == "likes_even")
    assert {one.event_type for one in first.reasons[:-3]} <= {"click", "skip"}


def test_lists_are_ordered_by_what_an_impression_is_worth_where_conf_says_so(spark, folder, liked):
    by_value = RANKING.model_copy(update={"order_by": "expected_value"})
    found = lists(spark, folder, liked, ranking=by_value, value=ValueConfig())
    assert all(row.score == pytest.approx(row.expected_value) for row in found)
    assert "ad05" not in {row.ad_id for row in found}  # has no price
    for user in USERS:
        values = [row.expected_value for row in found if row.user_id == user]
        assert len(values) == 4
        assert values == sorted(values, reverse=True)


def test_a_reranker_scores_what_was_kept_anew_and_says_why(spark, reranking):
    check_reranked(spark, reranking, tastes_of_users(spark, reranking))


def test_a_network_that_reads_texts_scores_by_them_and_says_what_clicks_and_skips_add(spark, reading):
    without = tastes_of_users(spark, reading)
    read = {"likes_even": ([0], [1]), "likes_odd": ([1], [0]), "only_skips": ([], [0])}
    rows = [(user, [text_of_kinds(kinds).tobytes() if kinds else None for kinds in of]) for user, of in read.items()]
    texts = spark.createDataFrame(rows, "user_id string, texts array<binary>")
    listed = check_reranked(spark, reading, without.join(texts, on="user_id", how="left"))
    fields = {user: {one.field for row in listed if row.user_id == user for one in row.reasons} for user in USERS}
    assert {"clicks as one text", "skips as one text"} <= fields["likes_even"]
    assert "clicks as one text" not in fields["only_skips"] | fields["new"]
    turned = texts.withColumn("texts", F.reverse("texts"))
    other = by_pair(scored(spark, reading, without, reranked=without.join(turned, on="user_id", how="left")))
    assert all(row.log_odds != other[row.user_id, row.ad_id].log_odds for row in listed if row.user_id == "likes_even")
    with pytest.raises(PythonException, match="is given no texts of histories"):
        scored(spark, reading, without, reranked=without.drop("texts")).collect()


def check_reranked(spark, reranking, liked):
    """The lists of a reranker: `matches` and reasons are what reranked says, of every ad and of given ones."""
    ads = TrainedAds(str(reranking[0]))
    first, found = (by_pair(scored(spark, reranking, liked, reranked=given)) for given in (None, liked))
    assert set(found) == set(first)
    kept = ("match", "background", "rate", "lift")
    assert all([row[name] for name in kept] == [first[pair][name] for name in kept] for pair, row in found.items())
    tastes = ads.read(with_tastes(spark.createDataFrame([("likes_odd",)], "user_id string"), liked).toPandas())
    expected, _ = reranked(ads, tastes, 0, ads.catalogue.live)
    assert [found["likes_odd", ad].log_odds for ad in ADS] == pytest.approx(expected.tolist(), abs=1e-6)
    pairs = [(user, ad) for user in USERS for ad in ADS[3:6]]
    given = by_pair(scored(spark, reranking, liked, given=pairs, reranked=liked))
    assert [given[pair].score for pair in pairs] == pytest.approx([found[pair].score for pair in pairs], abs=1e-5)
    everyone = spark.createDataFrame([(user,) for user in USERS], "user_id string")
    known = with_tastes(everyone, liked).toPandas()
    tastes, number = ads.read(known), {user: place for place, user in enumerate(known["user_id"])}
    listed = lists(spark, reranking, liked, reranked=liked)
    for row in listed:
        assert row.log_odds == found[row.user_id, row.ad_id].log_odds
        assert sum(one.contribution for one in row.reasons) == pytest.approx(row.log_odds, abs=1e-6)
        assert [one.field for one in row.reasons][-3:] == ["effect", "level", "other"]
        user, item = number[row.user_id], ads.items.get_indexer([row.ad_id])
        taste, level = reranked(ads, tastes, user, item)[1], tastes.level[user]
        chances = ads.probabilities(np.array([row.log_odds]), item, taste, level=level)
        assert (row.p_click, row.p_conversion) == pytest.approx((chances.click[0], chances.conversion[0]))
    assert {row.source for row in listed if row.user_id == "new"} == {"cold_start"}
    return listed


def test_without_a_ranker_nothing_is_trained(tmp_path, folder):
    from llmrec_spark.model.taste_scoring import trained_ads

    open_catalogue(str(folder[0])).save(tmp_path / "untrained")
    assert trained_ads(str(tmp_path / "untrained")) is None
