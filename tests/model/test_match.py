from dataclasses import replace
from math import ceil, inf, log

import numpy as np
import pytest

from llmrec_spark.config import MatchConfig
from llmrec_spark.model import match as module
from llmrec_spark.model.match import Parameters, block_tables, match_block, match_pairs
from tests.model.catalogues import Behaviour, encoded, random_histories, random_world, simple_world, unit
from tests.model.slow_match import slow_match, slow_uniform_match

DEFAULT = Parameters.of(MatchConfig())
UNIFORM = Parameters.of(MatchConfig(form="uniform"))
BY_ENCODER = DEFAULT._replace(keyword_share=0.0)
PARAMETERS = {
    "defaults": DEFAULT,
    "encoder alone": BY_ENCODER,
    "keywords alone": DEFAULT._replace(keyword_share=1.0),
    "closest field": DEFAULT._replace(field_temperature=0.03),
    "fields alike": DEFAULT._replace(field_temperature=100.0),
    "closest behaviour": DEFAULT._replace(behaviour_temperature=0.03),
    "behaviours alike": DEFAULT._replace(behaviour_temperature=50.0),
}
ALIKE = {"rtol": 0, "atol": 1e-6}
RED, BLUE = unit(1, 0), unit(0, 1)


def slow_matches(world, users, parameters):
    return np.array([[slow_match(world, user, ad, parameters) for ad in sorted(world.live)] for user in users])


def factorised(world, users, parameters, tmp_path, block_ads=4):
    folder, catalogue = world.opened(tmp_path)
    histories = encoded(users, catalogue)
    blocks = []
    for block in range(max(ceil(len(world.live) / block_ads), 1)):
        ads = catalogue.live[block * block_ads : (block + 1) * block_ads]
        has_text = (catalogue.fields[ads] >= 0).any(axis=1)
        blocks.append(
            match_block(block_tables(folder, block, block_ads, parameters, "cpu"), histories, has_text, parameters)
        )
    return np.concatenate(blocks, axis=1)


def direct(world, users, parameters, tmp_path):
    _, catalogue = world.opened(tmp_path)
    histories = encoded(users, catalogue)
    pairs = [match_pairs(catalogue, histories, user, catalogue.live, parameters, "cpu") for user in range(len(users))]
    return np.array([pair.match for pair in pairs])


both_ways = pytest.mark.parametrize("way", [factorised, direct])


@both_ways
@pytest.mark.parametrize("parameters", PARAMETERS.values(), ids=PARAMETERS)
@pytest.mark.parametrize("seed", range(3))
def test_the_match_follows_the_formula(way, seed, parameters, tmp_path):
    world = random_world(seed)
    users = random_histories(seed, world)
    np.testing.assert_allclose(way(world, users, parameters, tmp_path), slow_matches(world, users, parameters), **ALIKE)


@both_ways
@pytest.mark.parametrize("seed", range(3))
def test_the_uniform_form_is_the_mean_of_the_attended_similarities(way, seed, tmp_path):
    world = random_world(seed)
    users = random_histories(seed, world)
    expected = [[slow_uniform_match(world, user, ad) for ad in sorted(world.live)] for user in users]
    np.testing.assert_allclose(way(world, users, UNIFORM, tmp_path), expected, **ALIKE)


@both_ways
def test_ads_of_one_field_follow_the_formula(way, tmp_path):
    world = random_world(3, fields=["title"])
    users = random_histories(3, world)
    np.testing.assert_allclose(way(world, users, DEFAULT, tmp_path), slow_matches(world, users, DEFAULT), **ALIKE)


def test_both_ways_agree_on_a_wider_catalogue(tmp_path):
    world = random_world(5, ads=60, width=32)
    users = random_histories(5, world, users=40, longest=50)
    found = [way(world, users, DEFAULT, tmp_path) for way in (factorised, direct)]
    np.testing.assert_allclose(*found, **ALIKE)


@both_ways
def test_a_single_behaviour_has_the_whole_weight(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": BLUE}, "c": {"title": unit(3, 4)}})
    found = way(world, [[Behaviour("a", log_prior=-7.0)]], BY_ENCODER, tmp_path)
    np.testing.assert_allclose(found, [[1.0, 0.0, 0.6]], **ALIKE)


@both_ways
def test_behaviours_of_equal_similarity_give_that_similarity(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": RED}, "c": {"title": unit(3, 4)}})
    found = way(world, [[Behaviour("a"), Behaviour("b", log_prior=-2.0)]], BY_ENCODER, tmp_path)
    np.testing.assert_allclose(found, [[1.0, 1.0, 0.6]], **ALIKE)


@both_ways
def test_a_field_an_ad_lacks_takes_no_attention(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"tags": RED}, "c": {"title": RED, "tags": RED}})
    np.testing.assert_allclose(way(world, [[Behaviour("a")]], BY_ENCODER, tmp_path), [[1.0, 1.0, 1.0]], **ALIKE)


@both_ways
def test_an_ad_without_text_has_no_match(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {}})
    np.testing.assert_array_equal(way(world, [[Behaviour("a")]], BY_ENCODER, tmp_path), [[1.0, np.nan]])


@both_ways
@pytest.mark.parametrize("history", [None, [], [Behaviour("unknown")], [Behaviour("b")], [Behaviour(None, "unknown")]])
def test_a_user_without_usable_behaviour_has_no_match(way, history, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {}})
    np.testing.assert_array_equal(way(world, [history], BY_ENCODER, tmp_path), [[np.nan, np.nan]])


@both_ways
def test_a_behaviour_that_is_repeated_counts_each_time(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": BLUE}})
    twice = [Behaviour("a"), Behaviour("b"), Behaviour("a")]
    weighted = [Behaviour("a", log_prior=log(2.0)), Behaviour("b")]
    found = way(world, [twice, weighted], BY_ENCODER, tmp_path)
    np.testing.assert_allclose(found[0], found[1], **ALIKE)


@both_ways
def test_a_search_is_a_behaviour_with_the_vector_of_its_query(way, tmp_path):
    world = simple_world({"a": {"title": RED}}, queries={"q": []})
    world = replace(world, vectors={**world.vectors, "q": unit(3, 4)})
    np.testing.assert_allclose(way(world, [[Behaviour(None, "q")]], BY_ENCODER, tmp_path), [[0.6]], **ALIKE)


@both_ways
def test_histories_of_any_age_keep_their_weights(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": BLUE}})
    new, old = ([Behaviour("a", log_prior=age), Behaviour("b", log_prior=age - 1)] for age in (0.0, -500.0))
    found = way(world, [new, old], BY_ENCODER, tmp_path)
    np.testing.assert_allclose(found[0], found[1], **ALIKE)


@both_ways
def test_a_behaviour_far_older_than_the_others_weighs_nothing(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": BLUE}})
    found = way(world, [[Behaviour("a", log_prior=-500.0), Behaviour("b")]], BY_ENCODER, tmp_path)
    np.testing.assert_allclose(found, [[0.0, 1.0]], **ALIKE)


@both_ways
def test_opposite_ads_have_a_match_at_the_smallest_temperature(way, tmp_path):
    world = simple_world({"a": {"title": RED}, "b": {"title": -RED}})
    sharp = BY_ENCODER._replace(behaviour_temperature=0.03)
    np.testing.assert_allclose(way(world, [[Behaviour("a")]], sharp, tmp_path), [[1.0, -1.0]], **ALIKE)


@both_ways
def test_a_catalogue_without_any_text_has_no_match(way, tmp_path):
    world = simple_world({"a": {}, "b": {}})
    np.testing.assert_array_equal(way(world, [[Behaviour("a")], None], DEFAULT, tmp_path), np.full((2, 2), np.nan))


@both_ways
def test_nobody_having_a_history_is_no_error(way, tmp_path):
    world = simple_world({"a": {"title": RED}}, behaved=[])
    np.testing.assert_array_equal(way(world, [None, None], DEFAULT, tmp_path), [[np.nan], [np.nan]])


@both_ways
def test_no_live_ad_gives_no_match(way, tmp_path):
    world = simple_world({"a": {"title": RED}}, live=[])
    assert way(world, [[Behaviour("a")], None], DEFAULT, tmp_path).shape == (2, 0)


@pytest.mark.parametrize("block_ads", [1, 3, 100])
def test_the_size_of_a_block_changes_no_match(block_ads, tmp_path):
    world = random_world(6)
    users = random_histories(6, world)
    found = factorised(world, users, DEFAULT, tmp_path, block_ads)
    np.testing.assert_allclose(found, slow_matches(world, users, DEFAULT), **ALIKE)


@pytest.mark.parametrize("constant", ["ROWS_AT_ONCE", "USERS_AT_ONCE"])
def test_how_much_is_worked_on_at_once_changes_no_match(constant, monkeypatch, tmp_path):
    world = random_world(7)
    users = random_histories(7, world)
    monkeypatch.setattr(module, constant, 2)
    found = factorised(world, users, DEFAULT, tmp_path)
    np.testing.assert_allclose(found, slow_matches(world, users, DEFAULT), **ALIKE)


def test_the_terms_of_a_pair_add_up_to_its_match(tmp_path):
    world = random_world(8)
    _, catalogue = world.opened(tmp_path)
    histories = encoded(random_histories(8, world), catalogue)
    pairs = match_pairs(catalogue, histories, 4, catalogue.live, DEFAULT, "cpu")
    has_text = (catalogue.fields[catalogue.live] >= 0).any(axis=1)
    np.testing.assert_allclose(pairs.terms.sum(axis=(0, 1))[has_text], pairs.match[has_text], rtol=0, atol=1e-12)


def test_the_tables_of_a_block_are_built_once(tmp_path):
    folder, _ = simple_world({"a": {"title": RED}}).opened(tmp_path)
    assert block_tables(folder, 0, 4, DEFAULT, "cpu") is block_tables(folder, 0, 4, DEFAULT, "cpu")


def test_the_uniform_form_takes_no_setting_but_its_name():
    config = MatchConfig(form="uniform", keyword_share=0.9, field_temperature=3.0, behaviour_temperature=0.5)
    assert Parameters.of(config) == Parameters(0.0, 1.0, inf, uses_priors=False)
