"""The tables and the simple rankers of benchmarks/online_retail.py, on a few invoices made here."""

import sys
from datetime import date

import numpy as np
import pandas as pd
import pytest

from llmrec_spark.errors import DataError
from tests.conftest import REPO, at, utc

sys.path.insert(0, str(REPO / "benchmarks"))
from online_retail import measures, with_interval
from online_retail_rankers import popularity, repeats
from online_retail_tables import COLUMNS, FILE, invoices, refused, shop

DAY = date(2011, 8, 1)
HEADER = [one.split()[0] for one in COLUMNS.split(", ")]


def line(invoice, code, title="RED MUG", quantity=2, when="2011-07-01 09:00:00", price=1.5, customer="12.0"):
    return (invoice, code, title, quantity, when, price, customer, "France")


@pytest.fixture(scope="module")
def lines(spark, tmp_path_factory):
    rows = [
        *(line("1", "10001a"), line("1", "10001A"), line("1", "10001A"), line("1", "10002", 'BLUE, "BIG" MUG')),
        *(line("2", "10002", None, customer=None, price=9.5), line("2", "10003", "?", customer=None)),
        line("C3", "10001A", quantity=-2),
        *(line("4", "POST"), line("4", "10004", price=0.0), line("4", "10004", quantity=-1)),
        line("5", "10001A", "CRIMSON MUG", when="2011-07-31 23:59:59", customer="13.0"),
        line("6", "10005", when="2011-08-01 00:00:00"),
    ]
    folder = tmp_path_factory.mktemp("retail")
    pd.DataFrame(rows, columns=HEADER).to_csv(folder / FILE, index=False)
    return invoices(spark, folder)


def test_a_product_of_an_invoice_is_one_purchase_with_the_value_of_its_lines(lines):
    rows = {row.event_id: row for row in shop(lines, before=DAY).events.collect()}
    assert {key: (row.user_id, row.ad_id, row.value) for key, row in rows.items()} == {
        "1-10001A": ("12", "10001A", 9.0),
        "1-10002": ("12", "10002", 3.0),
        "5-10001A": ("13", "10001A", 3.0),
    }
    assert {row.event_type for row in rows.values()} == {"purchase"}
    assert utc(rows["5-10001A"].event_ts) == at("2011-07-31 23:59:59")


def test_a_product_is_an_ad_by_its_commonest_title_and_median_price_whoever_bought_it(lines):
    found = {row.ad_id: (row.title, row.price) for row in shop(lines, before=DAY).ads.collect()}
    assert found == {"10001A": ("RED MUG", 1.5), "10002": ('BLUE, "BIG" MUG', 5.5), "10003": ("?", 1.5)}


def test_every_line_that_is_no_purchase_is_counted_once(lines):
    assert refused(lines) == {
        "purchase": 6,
        "cancellation or correction": 2,
        "no product": 1,
        "no price": 1,
        "no customer": 2,
    }


def test_a_folder_without_the_file_is_refused(spark, tmp_path):
    with pytest.raises(DataError, match=r"lacks online_retail\.csv\.gz"):
        invoices(spark, tmp_path)


def bought(*rows):
    frame = pd.DataFrame(rows, columns=["user_id", "ad_id", "event_ts"])
    return frame.assign(event_ts=pd.to_datetime(frame["event_ts"]))


BOUGHT = bought(
    *(
        ("u", "twice", "2011-01-01"),
        ("u", "twice", "2011-01-02"),
        ("u", "late", "2011-07-02"),
        ("u", "old", "2011-01-01"),
    ),
    *((user, "hit", "2011-07-20") for user in "vwx"),
    *((user, "old", "2011-07-20") for user in "vw"),
    *(("v", "late", "2011-07-21"), ("v", "gone", "2011-01-01")),
)


def of_user(lists, user="u"):
    return lists[lists["user_id"] == user].sort_values("rank")["ad_id"].tolist()


def test_popularity_is_one_list_of_the_last_days():
    found = popularity(BOUGHT, pd.Index(["u", "new"]), as_of=DAY, days=28)
    assert of_user(found) == of_user(found, "new") == ["hit", "old", "late"]


@pytest.mark.parametrize(("latest", "expected"), [(True, ["twice", "late", "old"]), (False, ["twice", "old", "late"])])
def test_repeats_are_what_was_bought_most_often_and_popularity_fills_them_up(latest, expected):
    found = repeats(BOUGHT, pd.Index(["u"]), as_of=DAY, days=28, latest=latest)
    assert of_user(found) == [*expected, "hit"]
    assert found["rank"].tolist() == [1, 2, 3, 4]


def test_measures_count_what_no_list_holds_and_users_without_a_list():
    wanted = pd.DataFrame({"user_id": ["a", "a", "b"], "ad_id": ["1", "2", "1"]})
    lists = pd.DataFrame({"user_id": ["a", "a", "z"], "ad_id": ["9", "1", "1"], "rank": [1, 2, 1]})
    recall, ndcg = measures(lists, wanted).T
    np.testing.assert_allclose(recall, [0.5, 0.0])
    np.testing.assert_allclose(ndcg, [(1 / np.log2(3)) / (1 + 1 / np.log2(3)), 0.0])


def test_an_interval_holds_the_mean():
    users = np.array([f"u{n}" for n in range(400)], dtype=object)
    values = np.random.default_rng(1).normal(0.3, 1.0, (400, 1))
    mean, low, high = with_interval(values, users, replicates=500, seed=1)[:, 0]
    assert mean == pytest.approx(values.mean())
    assert high - low == pytest.approx(2 * 1.96 / 20, rel=0.15)
