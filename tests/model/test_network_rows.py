import numpy as np
import pandas as pd
import pytest
import torch

from llmrec_spark.errors import DataError
from llmrec_spark.model.network_rows import batch_of_rows
from llmrec_spark.model.ranking_network import score_lists
from tests.model.network_data import ad_table, tiny_network


def rows(**changes):
    """Two lists: of two ads after three behaviours, and of one ad after none."""
    values = {
        "example": [7, 8],
        "behaviour_items": [np.array([5, 6, 7]), None],
        "behaviour_kinds": [np.array([0, 1, 2]), None],
        "behaviour_residuals": [np.array([-0.5, 0.5, 0.25]), None],
        "behaviour_age_days": [np.array([9.0, 8.0, 1.0]), None],
        "items": [np.array([1, 2]), np.array([3])],
        "positions": [np.array([1, 2]), np.array([0])],
        "offsets": [np.array([0.5, -0.5]), np.array([1.0])],
        "conversion_offsets": [np.array([-2.0, -2.0]), np.array([-2.0])],
        "clicked": [np.array([True, False]), np.array([False])],
        "converted": [np.array([False, False]), np.array([False])],
        "conversion_known": [np.array([True, True]), np.array([False])],
    }
    return pd.DataFrame(values | changes)


def batch_of(table, max_behaviours=5):
    return batch_of_rows(table, max_behaviours=max_behaviours, text_width=8)


def test_lists_are_padded_on_the_right_in_the_order_of_the_rows():
    batch = batch_of(rows())
    assert batch.examples.tolist() == [7, 8]
    assert batch.items.tolist() == [[1, 2], [3, 0]]
    assert batch.present.tolist() == [[True, True], [True, False]]
    assert batch.behaviours.items.tolist() == [[5, 6, 7], [0, 0, 0]]
    assert batch.behaviours.present.tolist() == [[True] * 3, [False] * 3]
    assert batch.clicked.tolist() == [[True, False], [False, False]]
    assert torch.equal(score_lists(tiny_network(), batch, ad_table()).click, batch.offsets)


def test_of_a_long_history_the_newest_are_kept():
    assert batch_of(rows(), max_behaviours=2).behaviours.items.tolist() == [[6, 7], [0, 0]]


def test_texts_come_as_bytes_and_may_be_missing():
    vector = np.arange(8, dtype="<f4")
    batch = batch_of(rows(clicks_text=[vector.tobytes(), None]))
    assert batch.texts[0, 0].tolist() == vector.tolist()
    assert batch.texts.sum() == vector.sum()


@pytest.mark.parametrize("count", [0, 1])
def test_rows_without_any_behaviour_make_a_batch(count):
    batch = batch_of(rows().iloc[1 : 1 + count])
    assert batch.behaviours.items.shape == (count, 0)
    assert score_lists(tiny_network(), batch, ad_table()).click.shape == batch.items.shape


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(DataError, match="examples 8: offsets has 2 values, expected 1 as items"):
        batch_of(rows(offsets=[np.array([0.5, -0.5]), np.array([1.0, 2.0])]))


def test_an_unknown_kind_is_refused():
    with pytest.raises(DataError, match="outside 0 to 3"):
        batch_of(rows(behaviour_kinds=[np.array([0, 1, 9]), None]))
