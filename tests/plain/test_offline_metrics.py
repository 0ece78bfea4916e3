"""The data of benchmarks/offline_metrics.py and how it compares two sides; nothing is timed here."""

import importlib
import sys

import pytest

from tests.conftest import REPO

sys.path.insert(0, str(REPO / "benchmarks"))
offline_metrics = importlib.import_module("offline_metrics")


@pytest.fixture(scope="module")
def tables():
    return offline_metrics.tables(300)


def test_every_user_has_ten_items_and_three_truths_and_none_twice(tables):
    for name, each in (("recommended", 10), ("truths", 3)):
        by_user = tables[name].groupby("user_id")["item_id"]
        assert by_user.size().tolist() == by_user.nunique().tolist() == [each] * 300, name


def test_no_score_stands_twice_in_a_list(tables):
    assert (tables["recommended"].groupby("user_id")["score"].nunique() == 10).all()


def test_truths_stand_in_the_list_and_beside_it(tables):
    both = tables["truths"].merge(tables["recommended"], on=["user_id", "item_id"], how="left")
    hits = both.groupby("user_id")["score"].count()
    assert set(hits) == {0, 1, 2, 3}
    assert both["score"].mean() > tables["recommended"]["score"].mean()  # more often at the top


def test_the_data_are_the_same_each_time(tables):
    again = offline_metrics.tables(300)
    assert all(again[name].equals(tables[name]) for name in tables)
    assert not offline_metrics.tables(300, seed=2)["truths"].equals(tables["truths"])


def test_the_difference_is_the_largest_of_any_metric_and_pair():
    values = {"a": {"ndcg": 0.5, "map": 0.25}, "b": {"ndcg": 0.5, "map": 0.5}, "c": {"ndcg": 0.125, "map": 0.5}}
    assert offline_metrics.difference(values) == 0.375


def test_sides_with_other_metrics_cannot_be_compared():
    with pytest.raises(ValueError, match=r"metrics differ: .*'b': \['mrr'\]"):
        offline_metrics.difference({"a": {"ndcg": 0.5}, "b": {"mrr": 0.5}})


def test_the_report_says_how_many_times_faster_and_what_the_bootstrap_costs(capsys):
    names = list(offline_metrics.COMPUTED)
    offline_metrics.report({name: {"ndcg": 0.25} for name in names}, dict(zip(names, (2.0, 3.0, 10.0), strict=True)))
    said = capsys.readouterr().out
    assert "5.0 times faster" in said
    assert "200 replicates cost 1.5 times" in said
    assert "largest difference 0.0e+00" in said
