import numpy as np
import pytest
import torch

from llmrec_spark.model.pair_features import (
    PARTS,
    behaviour_parts,
    compared_kernels,
    feature_names,
    kernel_parts,
    padded_pairs,
    pair_features,
)
from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists, fitted_levels, residuals

LEVEL = Level(-1.0)
ITEMS, KERNELS = 7, ("alike", "near")
NAMES = feature_names(KERNELS, ("year", "price"))


def given(seed, lengths=(0, 2, 5)):
    """Histories, lists of four, a stack of kernels, tastes and two columns."""
    rng = np.random.default_rng(seed)
    users, longest = len(lengths), max(lengths)
    item = np.where(np.arange(longest) < np.array(lengths)[:, None], rng.integers(0, ITEMS, (users, longest)), -1)
    clicked = (rng.random(item.shape) < 0.5) & (item >= 0)
    offset = rng.normal(size=item.shape)
    histories = PaddedHistories(*map(torch.as_tensor, (item, clicked.astype("f4"), offset.astype("f4"))))
    asked = rng.integers(0, ITEMS, (users, 4))
    lists = PaddedLists(
        torch.as_tensor(asked), torch.zeros(users, 4).bool(), torch.as_tensor(rng.normal(size=(users, 4))).float()
    )
    pairs = torch.as_tensor(rng.normal(size=(ITEMS, ITEMS, 2))).float()
    stack = pairs[histories.item.clamp(min=0)[:, :, None], lists.item[:, None, :]]
    return (
        histories,
        lists,
        stack,
        torch.as_tensor(rng.normal(size=(users, 4))).float(),
        torch.as_tensor(rng.normal(size=(ITEMS, 2))).float(),
    )


def found_by_name(seed):
    inputs = given(seed)
    found = features_of(*inputs)
    assert found.shape[2] == len(NAMES)
    return inputs, {name: found[..., place].numpy() for place, name in enumerate(NAMES)}


def features_of(histories, lists, stack, taste, columns):
    return pair_features(padded_pairs(histories, lists, taste, stack, columns, LEVEL))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_features_are_those_of_the_docstring(seed):
    (histories, lists, stack, taste, columns), found = found_by_name(seed)
    levels = fitted_levels(histories, LEVEL).numpy()
    for user in range(3):
        kept = histories.item[user].numpy() >= 0
        y, n = histories.clicked[user].numpy()[kept], kept.sum()
        r = y - 1 / (1 + np.exp(-levels[user] - histories.offset[user].numpy()[kept]))
        for ad in range(4):
            for number, name in enumerate(KERNELS):
                k = stack[user, :, ad, number].numpy()[kept]
                weight = np.exp(k / 0.1 - (k / 0.1).max(initial=0))
                expected = {
                    "pull of": (k * r).sum() / np.sqrt(n + 10),
                    "nearest in": (weight * r).sum() / weight.sum() if n else 0,
                    "clicked mean of": k[y > 0].mean() if (y > 0).any() else 0,
                    "clicked best of": k[y > 0].max() if (y > 0).any() else 0,
                    "skipped mean of": k[y == 0].mean() if (y == 0).any() else 0,
                    "skipped best of": k[y == 0].max() if (y == 0).any() else 0,
                    "clicked total of": np.log(1 + np.maximum(k[y > 0], 0).sum() / 0.1),
                }
                for part, value in expected.items():
                    assert found[f"{part} {name}"][user, ad] == pytest.approx(value, abs=1e-5)
            item, own = histories.item[user].numpy()[kept], columns[lists.item[user, ad]].numpy()
            slope = (r @ columns[item].numpy()) / (n + 10)
            assert found["user slope of price"][user, ad] == pytest.approx(slope[1], abs=1e-5)
            assert found["slope of price times it"][user, ad] == pytest.approx(slope[1] * own[1], abs=1e-5)
            assert found["year"][user, ad] == own[0]
            assert found["effect"][user, ad] == lists.offset[user, ad]
            assert found["taste"][user, ad] == taste[user, ad]
            assert found["level"][user, ad] == pytest.approx(levels[user], abs=1e-6)


def test_a_user_without_history_is_told_of_the_items_alone():
    (histories, lists, stack, taste, columns), _ = found_by_name(0)
    empty = PaddedHistories(histories.item[:, :0], histories.clicked[:, :0], histories.offset[:, :0])
    found = features_of(empty, lists, stack[:, :0], taste * 0, columns)
    said = [name for place, name in enumerate(NAMES) if found[..., place].any()]
    assert said == ["effect", "level", "year", "price"]


def test_an_ad_has_the_same_features_in_any_list():
    (histories, lists, stack, taste, columns), _ = found_by_name(1)
    cut = PaddedLists(lists.item[:, :3], lists.clicked[:, :3], lists.offset[:, :3])
    short = features_of(histories, cut, stack[:, :, :3], taste[:, :3], columns)
    torch.testing.assert_close(short, features_of(histories, lists, stack, taste, columns)[:, :3])


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_parts_of_behaviours_add_up_to_those_of_the_history(seed):
    histories, _, stack, _, _ = given(seed)
    residual = residuals(histories, fitted_levels(histories, LEVEL))
    whole = kernel_parts(stack, residual, histories.clicked > 0.5, histories.item >= 0)
    for user in range(3):
        kept = histories.item[user] >= 0
        parts = behaviour_parts(stack[user, kept], residual[user, kept], histories.clicked[user, kept] > 0.5)
        assert parts.shape == (int(kept.sum()), 4, len(PARTS), 2)
        torch.testing.assert_close(parts.sum(dim=0).flatten(1), whole[user])


def test_slopes_are_read_through_their_columns():
    assert compared_kernels(["title text", "near in year", "slope of year", "same"]) == [0, 1, 3]
