from math import exp

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.model.behaviour_encoder import behaviour_vectors, flatten
from tests.model.catalogues import Behaviour, encoded, simple_world, unit

VECTORS = np.array([[1, 0], [0, 1], [-1, 0]], dtype=np.float32)


@pytest.fixture(scope="module")
def catalogue():
    """Ads a and b with text, c without, d live only; the query q. Behaviours are a, b and q, in rows 0, 1 and 2."""
    ads = {"a": {"title": unit(1, 0)}, "b": {"tags": unit(0, 1)}, "c": {}, "d": {"title": unit(1, 1)}}
    texts = simple_world(ads, queries={"q": []}, behaved=["a", "b", "c"])
    texts.vectors["q"] = unit(1, 2)
    return texts.catalogue()


def vectors_of(*fields):
    return behaviour_vectors(VECTORS, np.array(fields, dtype=np.int32))


def test_a_behaviour_is_the_mean_of_its_fields_at_unit_length():
    np.testing.assert_allclose(vectors_of([0, 1]), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_a_missing_field_takes_no_part_in_the_mean():
    np.testing.assert_array_equal(vectors_of([-1, 1], [0, -1]), [[0, 1], [1, 0]])


def test_a_text_in_two_fields_counts_twice():
    np.testing.assert_allclose(vectors_of([0, 0, 1]), [[2 / 5**0.5, 1 / 5**0.5]], rtol=1e-6)


def test_fields_that_cancel_give_zero():
    np.testing.assert_array_equal(vectors_of([0, 2]), [[0, 0]])


def test_an_item_without_any_field_is_zero():
    np.testing.assert_array_equal(vectors_of([-1, -1]), [[0, 0]])


def test_no_item_gives_no_vector():
    assert behaviour_vectors(VECTORS, np.zeros((0, 3), dtype=np.int32)).shape == (0, 2)


def test_a_history_becomes_rows_of_the_behaviours_in_its_order(catalogue):
    histories = encoded([[Behaviour("b"), Behaviour(None, "q"), Behaviour("a"), Behaviour("b")]], catalogue)
    assert histories.row.tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize(
    "unusable",
    [Behaviour("nowhere"), Behaviour("c"), Behaviour("d"), Behaviour(None, "nowhere"), Behaviour(None, None)],
    ids=["unknown ad", "ad without text", "ad nobody met", "unknown query", "nothing"],
)
def test_what_has_no_row_is_left_out(catalogue, unusable):
    histories = encoded([[Behaviour("a"), unusable, Behaviour("b")]], catalogue)
    assert histories.row.tolist() == [0, 1]
    assert histories.kept.tolist() == [0, 2]


def test_each_user_owns_a_slice(catalogue):
    histories = encoded([[Behaviour("a")], None, [], [Behaviour("nowhere")], [Behaviour("b")] * 2], catalogue)
    assert histories.offsets.tolist() == [0, 1, 1, 1, 1, 3]
    assert [histories.row[histories.of(user)].tolist() for user in (0, 1, 4)] == [[0], [], [1, 1]]


def test_kept_points_into_the_histories_of_all_users(catalogue):
    histories = encoded([[Behaviour("nowhere"), Behaviour("a")], None, [Behaviour("b")]], catalogue)
    assert histories.kept.tolist() == [1, 2]


def test_the_largest_prior_of_a_user_is_one(catalogue):
    history = [Behaviour("a", log_prior=-700.0), Behaviour("b", log_prior=-699.0)]
    np.testing.assert_allclose(encoded([history], catalogue).prior, [exp(-1), 1], rtol=1e-6)


def test_priors_are_scaled_user_by_user(catalogue):
    users = [[Behaviour("a", log_prior=-3.0)], [Behaviour("a", log_prior=5.0), Behaviour("b", log_prior=4.0)]]
    np.testing.assert_allclose(encoded(users, catalogue).prior, [1, 1, exp(-1)], rtol=1e-6)


def test_a_behaviour_that_is_left_out_does_not_scale_the_others(catalogue):
    history = [Behaviour("nowhere", log_prior=600.0), Behaviour("a", log_prior=-200.0)]
    np.testing.assert_array_equal(encoded([history], catalogue).prior, [1.0])


@pytest.mark.parametrize("users", [[], [None], [[]]])
def test_nobody_and_nothing_are_no_error(catalogue, users):
    histories = encoded(users, catalogue)
    assert histories.offsets.tolist() == [0] * (len(users) + 1)
    assert histories.row.tolist() == histories.prior.tolist() == []


def test_an_ad_is_not_taken_for_a_query_of_the_same_name(catalogue):
    assert encoded([[Behaviour("q"), Behaviour(None, "a")]], catalogue).row.tolist() == []


def test_lists_are_laid_end_to_end():
    values, lengths = flatten(pd.Series([["x", None], None, [], np.array(["y"], dtype=object)]))
    assert values.tolist() == ["x", None, "y"]
    assert lengths.tolist() == [2, 0, 0, 1]


def test_no_list_is_laid_out_as_nothing():
    values, lengths = flatten(pd.Series([], dtype=object))
    assert values.tolist() == lengths.tolist() == []
