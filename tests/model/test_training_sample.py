"""What of a training set is held in memory."""

import numpy as np
import pandas as pd

from llmrec_spark.model.training_sample import LONGEST, without_longest


def rows_of(lengths):
    """Lists of so many different ads each."""
    number = np.repeat(np.arange(len(lengths)), lengths)
    ads = np.concatenate([np.arange(length) for length in lengths])
    rows = {"hash": number, "ad_id": [f"ad{one}" for one in ads], "position": ads + 1.0, "log_sampling_rate": np.nan}
    return pd.DataFrame(rows)


def test_a_very_long_list_keeps_some_of_its_rows_whatever_their_order():
    rows = rows_of([3, 10 * LONGEST, LONGEST])
    kept = without_longest(rows)
    assert kept.groupby("hash").size().tolist() == [3, LONGEST, LONGEST]
    assert kept.index.is_monotonic_increasing
    assert kept.loc[kept["hash"] == 1, "position"].mean() > 3 * LONGEST  # not the first ones
    again = without_longest(rows.sample(frac=1.0, random_state=3))
    assert set(zip(again["hash"], again["ad_id"], strict=True)) == set(zip(kept["hash"], kept["ad_id"], strict=True))


def test_every_ad_is_kept_in_some_of_many_long_lists():
    kept = without_longest(rows_of([4 * LONGEST] * 60))
    assert kept["ad_id"].nunique() == 4 * LONGEST


def test_an_act_stays_among_the_ads_drawn_beside_it():
    rows = rows_of([2 * LONGEST]).assign(log_sampling_rate=-3.0)
    assert without_longest(rows) is rows


def test_lists_that_are_short_enough_are_left_as_they_are():
    rows = rows_of([3, LONGEST])
    assert without_longest(rows) is rows
    assert without_longest(rows[:0]).empty
