"""The protocols of benchmarks/measures.py on a small folder made here, and the measures with their intervals."""

import hashlib
import importlib
import itertools
import sys

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.metrics import one_list
from tests.conftest import REPO
from tests.ranklens_folder import FILMS, NO_RECORD, random_lists, write_lists

sys.path.insert(0, str(REPO / "benchmarks"))
measures = importlib.import_module("ranklens_measures")
protocols = importlib.import_module("ranklens_protocols")


@pytest.fixture(scope="module")
def impressions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ranklens")
    write_lists(folder, *random_lists(3))
    return protocols.read_impressions(folder, pd.Index(sorted(FILMS)))


def test_folds_and_cold_groups_are_those_of_the_protocol():
    users = ("anna", "cem", "90df34e521cc3d53af5f42f5c16ecb60")
    assert [protocols.user_fold(user, 5) for user in users] == [0, 0, 3]
    assert [protocols.user_fold(user, 25) for user in users] == [1, 4, 3]
    assert [protocols.md5_number(f"cold:{film}") % 4 for film in ("1", "2", "4002")] == [1, 3, 3]


def test_lists_of_a_user_are_in_order_of_time_as_a_number_and_ties_keep_the_order_of_the_file(tmp_path):
    lists = [("l1", "u", 1_000, ["1"]), ("l2", "u", 999, ["2"]), ("l3", "u", 1_000, ["3"]), ("l0", "a", 5, ["4"])]
    write_lists(tmp_path, lists, [("l2", "2"), ("l2", "3")])
    rows = protocols.read_impressions(tmp_path, pd.Index(["1", "2", "3"]))
    assert rows["film"].tolist() == ["4", "2", "1", "3"]
    assert rows["from_last"].tolist() == [0, 2, 1, 0]
    assert rows["clicked"].tolist() == [False, True, False, False]  # a click on a film of another list is none
    assert rows["item"].tolist() == [-1, 1, 0, 2]


def test_warm_judges_each_mixed_last_list_once_from_other_people_and_the_users_own_past(impressions):
    judged = []
    for trial in protocols.warm(impressions):
        users = set(trial.candidates["user"])
        judged += protocols.list_users(trial.candidates).tolist()
        assert not users & set(trial.training["user"])
        assert set(trial.training["fold"]) == {0, 1, 2, 3, 4} - {protocols.user_fold(user, 5) for user in users}
        assert set(trial.histories["user"]) == users
        assert (trial.histories["from_last"] > 0).all()
        assert "clicked" not in trial.candidates
    shares = impressions[impressions["from_last"] == 0].groupby("user")["clicked"].mean()
    mixed = shares.index[(shares > 0) & (shares < 1)]
    assert sorted(judged) == sorted(user for user in mixed if int(user[1:]) % 3)


def test_production_knows_every_earlier_list_and_no_last_one(impressions):
    [trial] = protocols.production(impressions)
    assert trial.training.equals(impressions[impressions["from_last"] > 0])
    warm_users = [user for one in protocols.warm(impressions) for user in protocols.list_users(one.candidates)]
    assert sorted(protocols.list_users(trial.candidates)) == sorted(warm_users)


def test_cold_ranks_films_of_a_group_that_training_and_histories_never_showed(impressions):
    trials = list(protocols.cold(impressions))
    assert len(trials) == 10
    for trial, group in zip(trials, np.repeat([0, 1], 5), strict=True):
        ranked = {int(hashlib.md5(f"cold:{film}".encode()).hexdigest(), 16) % 4 for film in trial.candidates["film"]}
        assert ranked <= {group}
        assert not (trial.training["cold_group"] == group).any()
        assert not (trial.histories["cold_group"] == group).any()
        assert (trial.histories["from_last"] > 0).all()
        assert not set(trial.candidates["user"]) & set(trial.training["user"])
        assert NO_RECORD not in set(trial.candidates["film"])
        clicks = trial.candidates.assign(clicked=trial.clicked).groupby("list")["clicked"].mean()
        assert ((clicks > 0) & (clicks < 1)).all()


def test_tied_films_count_by_their_expectation_and_a_film_without_a_score_is_last():
    asked = pd.DataFrame({"user": "u", "list": 0, "film": list("abcd"), "item": [0, 1, 2, -1]})
    trial = protocols.Trial(asked, asked, asked, np.array([True, False, False, False]))
    [tied] = measures.judged(trial, np.zeros(4), 2)
    orders = [np.array(order) for order in itertools.permutations(range(4))]
    for metric, name in enumerate(("ndcg", "group_auc", "mrr")):
        k = 2 if name == "ndcg" else 4
        assert tied[metric] == pytest.approx(np.mean([one_list(name, -order, trial.clicked, k) for order in orders]))
    [last] = measures.judged(trial, np.array([np.nan, 0.0, 0.0, 0.0]), 2)
    np.testing.assert_allclose(last, [0.0, 0.0, 0.25])


def test_a_difference_with_itself_is_nought_and_one_that_never_varies_has_no_width():
    users, values = np.array([0, 0, 1, 2, 3]), np.random.default_rng(1).random((5, 3))
    times = measures.resampled_users(4, 1_000, seed=1)
    np.testing.assert_array_equal(measures.with_interval(values - values, users, times), np.zeros((3, 3)))
    steady = measures.with_interval((values + 0.1) - values, users, times)
    np.testing.assert_allclose(steady, 0.1)
    mean, low, high = measures.with_interval(values, users, times)
    assert ((low < mean) & (mean < high)).all()


def test_intervals_resample_users_with_all_their_lists():
    users, values = np.array([0, 0, 0, 1]), np.array([[0.0], [0.0], [0.0], [1.0]])
    times = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 2.0]])
    mean, low, high = measures.with_interval(values, users, times)
    assert (mean[0], low[0], high[0]) == (0.25, pytest.approx(0.0125), pytest.approx(0.9625))  # of 0, .25 and 1
