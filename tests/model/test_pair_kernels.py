from math import exp, log, nan, sqrt

import numpy as np
import pytest
import torch

from llmrec_spark.model.pair_kernels import KernelStack, item_features, kernel_table, pair_kernels
from tests.model.catalogues import FIELDS, Text, World, random_world, simple_world, unit

EAST, WEST, NORTH = unit(1, 0), unit(-1, 0), unit(0, 1)


def features_of(world, **given):
    catalogue = world.catalogue()
    return catalogue, item_features(catalogue, world.fields, **given)


def by_name(features, rows, columns):
    return dict(zip(features.names, pair_kernels(features, np.array(rows), np.array(columns)), strict=True))


def slow_text_kernel(world, field, left, right):
    """Cosine of two ads' vectors of a field, less the mean over live ads that have it."""
    vectors = {
        ad: world.vectors[texts[field].text_hash].astype(float) for ad, texts in world.ads.items() if field in texts
    }
    if left not in vectors or right not in vectors:
        return 0.0
    mean = np.mean([vectors[ad] for ad in world.live if ad in vectors], axis=0)
    x, y = vectors[left] - mean, vectors[right] - mean
    lengths = np.linalg.norm(x) * np.linalg.norm(y)
    return float(x @ y / lengths) if min(np.linalg.norm(x), np.linalg.norm(y)) > 1e-6 else 0.0


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_text_kernels_are_cosines_less_the_mean_of_the_field(seed):
    world = random_world(seed)
    _, features = features_of(world)
    ads = sorted(world.ads)
    found = by_name(features, range(len(ads)), range(len(ads)))
    for field in FIELDS:
        expected = [[slow_text_kernel(world, field, left, right) for right in ads] for left in ads]
        np.testing.assert_allclose(found[f"{field} text"], expected, atol=1e-5)


def test_all_texts_is_the_cosine_of_the_mean_of_the_fields():
    world = simple_world(
        {"a": {"title": EAST, "tags": NORTH}, "b": {"title": WEST, "tags": -NORTH}, "c": {"title": NORTH}}
    )
    _, features = features_of(world)
    of_a, of_b = (np.sum([features.dense[f"{name} text"][i] for name in FIELDS], axis=0) for i in (0, 1))
    expected = of_a @ of_b / np.linalg.norm(of_a) / np.linalg.norm(of_b)
    assert by_name(features, [0], [1])["all texts"][0, 0] == pytest.approx(expected, abs=1e-6)


def test_sets_are_compared_by_idf_weighted_overlap():
    world = simple_world({ad: {"title": EAST} for ad in "abc"})
    _, features = features_of(world, sets={"tags": [["x", "y", "x"], ["x"], []]})
    x, y = log(4 / 3) + 1, log(4 / 2) + 1  # in two of three items, in one
    found = by_name(features, [0, 1, 2], [0, 1, 2])["tags shared"]
    np.testing.assert_allclose(
        found, [[1, x / sqrt(x**2 + y**2), 0], [x / sqrt(x**2 + y**2), 1, 0], [0, 0, 0]], atol=1e-6
    )


def test_columns_are_near_by_half_standard_deviations_and_unknown_values_are_like_nothing():
    world = simple_world({ad: {"title": EAST} for ad in "abcd"})
    _, features = features_of(world, columns={"year": np.array([0.0, 2.0, nan, 2.0])})
    deviation = np.std([0.0, 2.0, 2.0])
    found = by_name(features, [0, 1, 2], [0, 1, 2])
    near = exp(-0.5 * (2 / deviation / 0.5) ** 2)
    np.testing.assert_allclose(found["near in year"], [[1, near, 0], [near, 1, 0], [0, 0, 0]], atol=1e-6)
    z = (np.array([0, 2]) - 4 / 3) / deviation
    np.testing.assert_allclose(found["slope of year"][:2, :2], np.outer(z, z), atol=1e-6)
    assert not found["slope of year"][2].any()


def test_a_constant_column_and_one_that_nobody_has_say_nothing():
    world = simple_world({ad: {"title": EAST} for ad in "ab"})
    _, features = features_of(world, columns={"flat": np.ones(2), "none": np.full(2, nan)})
    found = by_name(features, [0, 1], [0, 1])
    assert not found["slope of flat"].any()
    assert not found["slope of none"].any()
    assert not found["near in none"].any()


def test_only_an_item_itself_is_the_same():
    _, features = features_of(random_world(0))
    np.testing.assert_array_equal(by_name(features, [3, 1], [1, 2, 3])["same"], [[0, 0, 1], [1, 0, 0]])


@pytest.mark.parametrize("seed", [0, 1])
def test_every_kernel_is_positive_semi_definite(seed):
    world = random_world(seed)
    years = {"year": np.random.default_rng(seed).normal(size=len(world.ads) + len(world.queries))}
    catalogue, features = features_of(world, columns=years)
    every = np.arange(len(catalogue.fields))
    for kernel in pair_kernels(features, every, every):
        assert np.linalg.eigvalsh(kernel.astype(float)).min() > -1e-5


def test_the_table_of_a_block_and_the_stack_hold_the_same_sums():
    world = random_world(0)
    catalogue, features = features_of(world)
    weights = np.linspace(0.1, 1.0, len(features.names))
    stack = pair_kernels(features, catalogue.behaviours, catalogue.live)
    expected = np.einsum("f,fga->ga", weights, stack)
    table = kernel_table(features, weights, catalogue.behaviours, catalogue.live)
    np.testing.assert_allclose(table.numpy(), expected, rtol=1e-5, atol=1e-6)
    rows, columns = torch.as_tensor(catalogue.behaviours)[None].long(), torch.as_tensor(catalogue.live)[None].long()
    looked_up = KernelStack(features)(rows, columns)[0].numpy()  # (G, A, F)
    np.testing.assert_allclose(looked_up @ weights, expected, rtol=1e-5, atol=1e-6)
    whole = KernelStack(features).table(weights).numpy()
    np.testing.assert_allclose(whole[catalogue.behaviours][:, catalogue.live], expected, rtol=1e-5, atol=1e-6)


def test_an_item_without_anything_is_like_nothing_but_itself():
    world = World({"a": {}, "b": {"title": Text("t")}}, {"t": EAST}, {}, ["a", "b"], ["a", "b"])
    _, features = features_of(world)
    found = pair_kernels(features, np.array([0]), np.array([0, 1]))
    assert not found[:-1].any()
    assert found[-1].tolist() == [[1, 0]]
