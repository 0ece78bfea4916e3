from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.model.catalogue import ARRAYS, centred_vectors, open_catalogue
from tests.model.catalogues import FIELDS, Text, World, random_world, simple_world, unit

RED, BLUE, PINK = unit(1, 0), unit(0, 1), unit(3, 4)


@pytest.fixture
def shop():
    """Two ads that share a tag text, one ad without text, one query."""
    return World(
        ads={
            "b": {"title": Text("t1", ["red", "shoe"]), "tags": Text("t2", ["sale"])},
            "a": {"tags": Text("t2", ["sale"])},
            "c": {},
        },
        vectors={"t1": RED, "t2": BLUE, "q": PINK},
        queries={"q": ["shoe"]},
        live=["c", "b"],
        behaved=["c", "a"],
    )


def test_ads_are_in_order_of_their_id(shop):
    assert shop.catalogue().ad_ids.tolist() == ["a", "b", "c"]


def test_queries_are_in_order_of_their_hash():
    world = simple_world({"a": {"title": RED}}, queries={"z": [], "y": []})
    world = replace(world, vectors={**world.vectors, "y": RED, "z": BLUE})
    catalogue = world.catalogue()
    assert catalogue.query_hashes.tolist() == ["y", "z"]
    np.testing.assert_array_equal(catalogue.vectors[catalogue.fields[1:, 0]], [RED, BLUE])


def test_every_item_finds_the_vectors_of_its_fields(shop):
    catalogue = shop.catalogue()
    found = [[catalogue.vectors[i].tolist() if i >= 0 else None for i in item] for item in catalogue.fields]
    red, blue, pink = RED.tolist(), BLUE.tolist(), PINK.tolist()
    assert found == [[None, None, blue], [red, None, blue], [None, None, None], [pink, None, None]]


def test_a_text_that_ads_share_is_there_once(shop):
    catalogue = shop.catalogue()
    assert len(catalogue.vectors) == 3
    assert catalogue.fields[0, 2] == catalogue.fields[1, 2]


def test_a_query_shares_the_vector_of_a_title_of_the_same_text(shop):
    catalogue = replace(shop, queries={"t1": []}).catalogue()
    assert catalogue.fields[3, 0] == catalogue.fields[1, 0]


def test_the_order_of_the_rows_changes_no_array():
    world = random_world(2)
    turned = replace(world, ads=dict(reversed(world.ads.items())), queries=dict(reversed(world.queries.items())))
    one, other = world.catalogue(), turned.catalogue()
    for name in ("vectors", "fields", "behaviours", "live"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


def test_a_text_of_two_fields_has_a_vector_for_each(shop):
    world = replace(shop, ads={"a": {"title": Text("t1"), "tags": Text("t1")}}, live=["a"], behaved=["a"])
    catalogue = world.catalogue()
    assert catalogue.fields[0, 0] != catalogue.fields[0, 2]


def test_live_ads_are_kept_even_without_text(shop):
    assert shop.catalogue().live.tolist() == [1, 2]
    assert shop.catalogue().live_ids.tolist() == ["b", "c"]


def test_behaviours_are_the_items_of_histories_that_have_a_text(shop):
    assert shop.catalogue().behaviours.tolist() == [0, 3]


def test_keywords_of_all_fields_are_taken_together(shop):
    keywords = shop.catalogue().keywords.toarray()
    assert [np.count_nonzero(row) for row in keywords] == [1, 3, 0, 1]


@pytest.mark.parametrize("part", [{"queries": {}}, {"live": []}, {"behaved": []}, {"queries": {}, "behaved": []}])
def test_no_query_no_live_ad_or_no_history_is_no_error(shop, part, tmp_path):
    _, catalogue = replace(shop, **part).opened(tmp_path)
    assert catalogue.fields.shape == (3 + len(part.get("queries", shop.queries)), len(FIELDS))


def test_a_catalogue_without_any_text_can_be_saved(tmp_path):
    _, catalogue = simple_world({"a": {}, "b": {}}).opened(tmp_path)
    assert (catalogue.fields == -1).all()
    assert catalogue.behaviours.tolist() == []


def test_what_is_opened_is_what_was_saved(tmp_path):
    world = random_world(1)
    _, opened = world.opened(tmp_path)
    built = world.catalogue()
    for name in ("ad_ids", "query_hashes", "vectors", "fields", "behaviours", "live"):
        np.testing.assert_array_equal(getattr(opened, name), getattr(built, name), err_msg=name)
    np.testing.assert_array_equal(opened.keywords.toarray(), built.keywords.toarray())


def test_arrays_are_mapped_and_not_read(tmp_path):
    _, catalogue = random_world(1).opened(tmp_path)
    assert all(isinstance(array, np.memmap) for array in (catalogue.vectors, catalogue.fields, catalogue.live))


def test_a_catalogue_is_opened_once(tmp_path):
    folder, catalogue = random_world(1).opened(tmp_path)
    assert open_catalogue(folder) is catalogue


def test_no_array_can_carry_code(tmp_path):
    folder, _ = random_world(1).opened(tmp_path)
    for name in ARRAYS:
        assert np.load(f"{folder}/{name}.npy", allow_pickle=False).dtype != object


def test_the_catalogue_of_another_run_is_not_overwritten(tmp_path):
    catalogue = simple_world({"a": {"title": RED}}).catalogue()
    catalogue.save(tmp_path / "one")
    with pytest.raises(FileExistsError):
        catalogue.save(tmp_path / "one")


def of_fields(*fields):
    return pd.DataFrame({"field": fields, "text_hash": ["x"] * len(fields)})


def test_uncentred_vectors_stay_as_they_are():
    vectors = pd.Series({"x": PINK.tobytes()})
    np.testing.assert_array_equal(centred_vectors(of_fields("title"), vectors, None), [PINK])


def test_a_centred_vector_loses_the_mean_of_its_field_and_is_of_unit_length_again():
    vectors = pd.Series({"x": PINK.tobytes()})  # (.6, .8)
    centre = {"title": np.array([0.6, 0.3], dtype="f4"), "tags": np.array([0.1, 0.8], dtype="f4")}
    found = centred_vectors(of_fields("title", "tags"), vectors, centre)
    np.testing.assert_allclose(found, [[0.0, 1.0], [1.0, 0.0]], atol=1e-6)


def test_a_vector_that_is_the_mean_becomes_zero():
    centre = {"title": PINK}
    np.testing.assert_array_equal(
        centred_vectors(of_fields("title"), pd.Series({"x": PINK.tobytes()}), centre), [[0, 0]]
    )


def test_a_query_is_centred_as_a_title(shop):
    centre = {"title": np.array([0.6, 0.3], dtype="f4"), "description": RED, "tags": RED}
    catalogue = replace(shop, centre=centre).catalogue()
    np.testing.assert_allclose(catalogue.vectors[catalogue.fields[3, 0]], [0.0, 1.0], atol=1e-6)
