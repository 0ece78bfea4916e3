"""What of a training set is held in memory."""

import numpy as np
import pandas as pd

from llmrec_spark.model.training_sample import LONGEST, without_longest


def rows_of(lengths):
    """Lists of so many different ads each."""
    number = np.repeat(np.arange(len(lengths)), lengths)
    ads = np.concatenate([np.arange(length) for length in lengths])
    return pd.DataFrame({"hash": number, "ad_id": [f"ad{one}" for one in ads], "position": ads + 1.0})


def test_a_very_long_list_keeps_some_of_its_rows_whatever_their_order():
    rows = rows_of([3, 10 * LONGEST, LONGEST])
    kept = without_longest(rows)
    assert kept.groupby("hash").size().tolist() == [3, LONGEST, LONGEST]
    assert kept.index.is_monotonic_increasing
    assert kept.loc[kept["hash"] == 1, "position"].mean() > 3 * LONGEST  # not the first ones
    again = without_longest(rows.sample(frac=1.0, random_state=3))
    assert set(zip(again["hash"], again["ad_id"], strict=True)) == set(zip(kept["hash"], kept["ad_id"], strict=True))


def test_lists_that_are_short_enough_are_left_as_they_are():
    rows = rows_of([3, LONGEST])
    assert without_longest(rows) is rows
    assert without_longest(rows[:0]).empty
