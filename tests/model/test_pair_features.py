import numpy as np
import pytest
import torch

from llmrec_spark.model.pair_features import pair_features
from llmrec_spark.model.taste_gp import Level, PaddedHistories, PaddedLists, fitted_levels

LEVEL = Level(-1.0)
ITEMS, KERNELS = 7, ("alike", "near")


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
    found = pair_features(*inputs, LEVEL, kernels=KERNELS, named=("year", "price"))
    assert found.values.shape[2] == len(found.names)
    return inputs, {name: found.values[..., place].numpy() for place, name in enumerate(found.names)}


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
                }
                for part, value in expected.items():
                    assert found[f"{part} {name}"][user, ad] == pytest.approx(value, abs=1e-5)
            item, own = histories.item[user].numpy()[kept], columns[lists.item[user, ad]].numpy()
            slope = (r @ columns[item].numpy()) / (n + 10)
            assert found["user slope of price"][user, ad] == pytest.approx(slope[1], abs=1e-5)
            assert found["slope of price times it"][user, ad] == pytest.approx(slope[1] * own[1], abs=1e-5)
            assert found["year"][user, ad] == own[0]
            b = lists.offset[user].numpy()
            assert found["effect in list"][user, ad] == pytest.approx(b[ad] - b.mean(), abs=1e-5)
            assert found["effect rank"][user, ad] == pytest.approx((b > b[ad]).mean())
            assert found["taste"][user, ad] == taste[user, ad]


def test_a_user_without_history_is_told_of_the_items_alone():
    (histories, lists, stack, taste, columns), _ = found_by_name(0)
    empty = PaddedHistories(histories.item[:, :0], histories.clicked[:, :0], histories.offset[:, :0])
    found = pair_features(
        empty, lists, stack[:, :0], taste * 0, columns, LEVEL, kernels=KERNELS, named=("year", "price")
    )
    said = [name for place, name in enumerate(found.names) if found.values[..., place].any()]
    assert said == ["effect", "effect in list", "effect rank", "level", "year", "price"]


def test_places_that_pad_a_list_do_not_move_the_others():
    (histories, lists, stack, taste, columns), _ = found_by_name(1)
    cut = PaddedLists(lists.item[:, :3], lists.clicked[:, :3], lists.offset[:, :3])
    padded = PaddedLists(torch.where(torch.arange(4) < 3, lists.item, -1), lists.clicked, lists.offset)
    given = {"kernels": KERNELS, "named": ("year", "price")}
    short = pair_features(histories, cut, stack[:, :, :3], taste[:, :3], columns, LEVEL, **given).values
    long = pair_features(histories, padded, stack, taste, columns, LEVEL, **given).values
    torch.testing.assert_close(short, long[:, :3])
