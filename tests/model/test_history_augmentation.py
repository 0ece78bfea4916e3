from dataclasses import replace

import pytest
import torch

from llmrec_spark.model.history_augmentation import augmented, cropped, draws, hidden, reordered
from llmrec_spark.network_config import AugmentationSettings
from tests.model.network_data import lists

ALL = AugmentationSettings(crop=0.4, mask=0.3, reorder=0.6)


def history(length, total=6):
    """One user whose ads are 1, 2, ... and ages 60, 50, ... days."""
    behaviours = lists(1, behaviours=total).behaviours
    return replace(
        behaviours,
        items=torch.arange(1, total + 1)[None],
        age_days=torch.arange(total, 0, -1)[None] * 10.0,
        present=(torch.arange(total) < length)[None],
    )


def ads(behaviours):
    return behaviours.items[behaviours.present].tolist()


@pytest.mark.parametrize("draw, left", [(0.0, [1, 2, 3]), (0.5, [2, 3, 4]), (0.999, [3, 4, 5])])
def test_a_crop_keeps_a_window_wherever_it_was_drawn(draw, left):
    found = cropped(history(5), 0.4, torch.tensor([draw]))
    assert ads(found) == left
    assert found.present.tolist() == [[True] * 3 + [False] * 3]  # moved to the left
    assert found.age_days[0, :3].tolist() == [70.0 - 10 * ad for ad in left]  # each with its own age


@pytest.mark.parametrize("length", [0, 1])
def test_a_crop_leaves_a_short_history_as_it_is(length):
    assert ads(cropped(history(length), 0.9, torch.tensor([0.7]))) == [1][:length]


def test_a_mask_hides_what_is_drawn_below_it():
    found = hidden(history(3), 0.5, torch.tensor([[0.0, 0.4, 0.6, 0.1, 0.1, 0.1, 0.1]]))
    assert found.hidden.tolist() == [[True, False, True, False, False, False]]


def test_a_reordering_moves_all_but_the_ages_and_only_in_its_window():
    found = reordered(history(5), 0.6, torch.tensor([[0.0, 0.9, 0.5, 0.1, 0.2, 0.2, 0.2]]))
    assert found.items.tolist() == [[3, 2, 1, 4, 5, 6]]
    assert found.age_days.tolist() == history(5).age_days.tolist()
    assert ads(reordered(history(0), 1.0, torch.rand(1, 7))) == []


def test_a_reordering_never_reaches_the_padding():
    batch = lists(50, behaviours=6).behaviours
    found = reordered(batch, 1.0, torch.rand(50, 7, dtype=torch.double))
    assert torch.equal(found.present, batch.present)
    for before, after, present in zip(batch.items, found.items, batch.present, strict=True):
        assert sorted(before[present].tolist()) == sorted(after[present].tolist())


def test_what_is_drawn_for_an_example_does_not_follow_from_its_batch():
    batch = lists(8)
    together = augmented(batch.behaviours, batch.examples, ALL, seed=1, epoch=0)
    alone = batch.rows(torch.tensor([5, 2]))
    apart = augmented(alone.behaviours, alone.examples, ALL, seed=1, epoch=0)
    assert torch.equal(together.items[[5, 2]], apart.items)
    assert torch.equal(together.hidden[[5, 2]], apart.hidden)


def test_draws_are_uniform_and_differ_by_seed_epoch_and_purpose():
    batch = lists(2_000)
    found = [draws(batch.examples, batch.behaviours, *place) for place in [(0, 1, 0), (1, 1, 0), (0, 2, 0), (0, 1, -1)]]
    for one in found:
        assert one.shape == (2_000, 6)
        assert abs(one.mean().item() - 0.5) < 0.02
        assert abs(one.var().item() - 1 / 12) < 0.005
    for i in range(4):
        for j in range(i):
            assert abs(torch.corrcoef(torch.stack([found[i].flatten(), found[j].flatten()]))[0, 1]) < 0.05


def test_no_share_changes_nothing():
    batch = lists(8)
    assert augmented(batch.behaviours, batch.examples, AugmentationSettings(), seed=1, epoch=0) is batch.behaviours
