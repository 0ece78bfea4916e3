"""The tables of a training set filled day by day, and read back from their files as Arrow batches."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
from chispa import assert_df_equality
from pyspark.sql import functions as F

from llmrec_spark import sequences, training_data
from llmrec_spark.config import Config, EventsConfig, TablesConfig
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.model.example_batches import example_batches, example_files
from llmrec_spark.model.training_sample import read_sample
from llmrec_spark.storage import Storage
from llmrec_spark.training_config import TrainingConfig
from llmrec_spark.training_data import fill_training_tables, neighbours_before
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES
from tests.conftest import at
from tests.spark.rows import DAY, ads_of, event, events_of

PLACES = {"inputs": {name: {"path": f"in/{name}"} for name in ("events", "ads")}, "tables": {"root": "out"}}
SETTINGS = {"train_days": 3, "validation_days": 1, "test_days": 1}
COLUMNS = ["run_date", "example_id", "user_id", "list_id", "clicked", "ad_shown", "mean_rate", "user_shown"]


def log_rows():
    """Lists of two ads for 20 users on two of the days, one click in each; a row twice, and one too late."""
    rows = []
    for days_before in (2, 1):
        for number in range(20):
            noon = at(f"{DAY - timedelta(days=days_before)} 12:00")
            of_list = {"user_id": f"user {number}", "request_id": f"r{days_before}-{number}"}
            for position, ad_id in enumerate("ab", 1):
                name = f"{days_before}-{number}-{position}"
                rows.append(event(name, "impression", noon, ad_id=ad_id, position=position, **of_list))
            rows.append(event(f"click {days_before}-{number}", "click", noon, ad_id="ab"[number % 2], **of_list))
    return [*rows, rows[0], event("late", "impression", at(f"{DAY} 00:00"))]


def config_of():
    return Config(**PLACES, mlflow={"tracking_uri": "sqlite:///x.db"}, training=SETTINGS)


def inputs_of(spark):
    """log_rows with columns of the company's own, named as some of ours."""
    named = {name: F.lit("theirs") for name in ("run_date", "split", "lapsing")}
    events, ads = events_of(spark, *log_rows()).withColumns(named), ads_of(spark, {"ad_id": "a"}, {"ad_id": "b"})
    where = {"events": "in/events", "ads": "in/ads"}
    return Inputs({"events": events, "ads": ads}, where, {"events": "e@1", "ads": "a@1"}, has_consent=False)


@pytest.fixture(scope="module")
def filled(spark, tmp_path_factory):
    """A storage whose tables hold a training set, the id of the set, and what a second call said of it."""
    storage = Storage(spark, TablesConfig(root=str(tmp_path_factory.mktemp("a folder") / "tables")))
    config, inputs = config_of(), inputs_of(spark)
    training_set = fill_training_tables(storage, config, inputs, as_of=DAY)
    lost = DAY - timedelta(days=2)
    before = rows_of_set(storage, training_set)
    spark.sql(f"DELETE FROM {storage.where(TRAINING_EXAMPLES)} WHERE run_date = DATE '{lost}'")
    assert fill_training_tables(storage, config, inputs, as_of=DAY) == training_set
    return storage, training_set, before


def test_examples_are_kept_for_days_and_then_forgotten_of_every_set(filled, spark, tmp_path):
    storage, training_set, before = filled
    copy = Storage(spark, TablesConfig(root=str(tmp_path / "tables"), keep_days=7))
    config = config_of().model_copy(update={"tables": TablesConfig(root=str(tmp_path / "tables"), keep_days=7)})
    for table in (TRAINING_EXAMPLES, TRAINING_HISTORIES):
        storage.read(table).write.format("delta").partitionBy("training_set", "run_date").save(
            str(tmp_path / "tables" / table.name)
        )
    first_read = DAY - timedelta(days=5)  # train_days, validation_days and test_days
    training_data.forget_old_examples(copy, config, as_of=DAY)
    assert rows_of_set(copy, training_set) == before
    kept_from = DAY - timedelta(days=1)  # the second of two days with rows
    training_data.forget_old_examples(copy, config, as_of=kept_from + (DAY - first_read) + timedelta(days=7))
    for table in (TRAINING_EXAMPLES, TRAINING_HISTORIES):
        assert {row.run_date for row in copy.read(table).select("run_date").collect()} == {kept_from}


def rows_of_set(storage, training_set):
    """example_id -> the row."""
    rows = storage.read(TRAINING_EXAMPLES).where(F.col("training_set") == training_set).select(*COLUMNS).collect()
    assert len({row.example_id for row in rows}) == len(rows)
    return {row.example_id: row.asDict() for row in rows}


def files_of(storage, training_set):
    return storage.read(TRAINING_EXAMPLES).where(F.col("training_set") == training_set).inputFiles()


def read(files, **options):
    """example_id -> the row."""
    batches = list(example_batches(files, columns=COLUMNS, **options))
    rows = [row for batch in batches for row in batch.to_pylist()]
    assert len({row["example_id"] for row in rows}) == len(rows)
    return {row["example_id"]: row for row in rows}


def test_every_shown_ad_of_the_days_is_there_once_and_a_lost_day_is_filled_again(filled):
    storage, training_set, before = filled
    found = rows_of_set(storage, training_set)
    assert found == before
    assert len(found) == 2 * 20 * 2
    assert {row["user_shown"] for row in found.values()} == {0, 2}
    histories = storage.read(TRAINING_HISTORIES).groupBy("run_date").count().collect()
    assert {(DAY - row.run_date).days: row["count"] for row in histories} == {1: 20}


def test_days_filled_one_by_one_have_the_same_rows_and_histories_are_there_first(filled, spark, storage, monkeypatch):
    together, training_set, _ = filled
    commits, write = [], Storage.write_where

    def write_where(storage, table, rows, where):
        commits.append((table.name, where["run_date"]))
        return write(storage, table, rows, where)

    monkeypatch.setattr(training_data, "DAYS_TOGETHER", 1)
    monkeypatch.setattr(Storage, "write_where", write_where)
    assert fill_training_tables(storage, config_of(), inputs_of(spark), as_of=DAY) == training_set
    days = [DAY - timedelta(days=2), DAY - timedelta(days=1)]
    assert commits == [(one.name, [day]) for day in days for one in (TRAINING_HISTORIES, TRAINING_EXAMPLES)]
    for table in (TRAINING_HISTORIES, TRAINING_EXAMPLES):
        assert_df_equality(storage.read(table), together.read(table), ignore_row_order=True)


def test_batches_hold_the_rows_of_the_table_and_nothing_of_its_replaced_files(filled):
    storage, training_set, _ = filled
    files = files_of(storage, training_set)
    folder = Path(storage.where(TRAINING_EXAMPLES).split("`")[1])
    assert len(list(folder.rglob("*.parquet"))) > len(files)
    assert read(files) == rows_of_set(storage, training_set)


@pytest.mark.parametrize("batch_rows", [1, 3, 8_192])
def test_the_rows_of_a_list_are_in_one_batch(filled, batch_rows):
    files = files_of(*filled[:2])
    batches = list(example_batches(files, columns=["list_id"], batch_rows=batch_rows))
    lists = [set(batch.column("list_id").to_pylist()) for batch in batches]
    assert sum(map(len, lists)) == len(set.union(*lists)) == 40
    assert {batch.num_rows for batch in batches} <= set(range(2, batch_rows + 3))


def test_only_rows_of_the_condition_and_columns_asked_for_are_read(filled):
    storage, training_set, _ = filled
    where = ds.field("clicked") & (ds.field("run_date") == pa.scalar(DAY - timedelta(days=1)))
    batches = list(example_batches(files_of(storage, training_set), columns=["split", "ad_id"], where=where))
    assert {tuple(batch.schema.names) for batch in batches} == {("split", "ad_id")}
    assert sum(batch.num_rows for batch in batches) == 20
    assert {split for batch in batches for split in batch.column("split").to_pylist()} == {"test"}


@pytest.mark.parametrize("seed", [None, 7])
def test_workers_share_the_files_among_them(filled, seed):
    storage, training_set, _ = filled
    files = files_of(storage, training_set)
    shares = [example_files(files, rank=rank, workers=2, seed=seed) for rank in range(2)]
    assert shares == [example_files(reversed(files), rank=rank, workers=2, seed=seed) for rank in range(2)]
    found = [read(share) for share in shares]
    assert not set(found[0]) & set(found[1])
    assert found[0] | found[1] == rows_of_set(storage, training_set)


def sample_of(storage, training_set, *, max_lists=1_000, ads="ab", positions=True):
    of_set = F.col("training_set") == training_set
    files = [sorted(storage.read(one).where(of_set).inputFiles()) for one in (TRAINING_EXAMPLES, TRAINING_HISTORIES)]
    options = {"size": len(ads), "answers": ["click"], "max_lists": max_lists, "positions": positions}
    return read_sample(*files, pd.Index(list(ads)), **options)


def test_a_sample_holds_the_lists_of_a_set_with_what_was_known_of_their_users(filled):
    storage, training_set, before = filled
    found = sample_of(storage, training_set)
    assert len(found.rows) == len(before)
    assert found.examples.list.tolist() == sorted(found.examples.list)
    assert set(found.rows.loc[found.examples.calibrates, "split"]) == {"validation"}
    of_test = found.rows[found.rows["split"] == "test"]  # a day later: two ads were shown before, one clicked
    for place in of_test.index:
        known = slice(*found.before.offsets[[found.examples.list[place], found.examples.list[place] + 1]])
        [clicked] = found.before.item[known][found.before.clicked[known]]
        assert clicked == int(of_test["user_id"][place].split()[1]) % 2
        assert len(found.before.item[known]) == 2
    first = found.histories[[len(one) == 0 for one in found.histories["ad_ids"]]]
    assert set(first["run_date"].dt.strftime("%F")) == {str(DAY - timedelta(days=2))}


def test_a_sample_of_few_lists_is_the_same_whatever_the_files_and_counts_every_example(filled):
    storage, training_set, _ = filled
    few, every = sample_of(storage, training_set, max_lists=7), sample_of(storage, training_set)
    assert few.rows.groupby("split")["list_id"].nunique().to_dict() == {"test": 7, "validation": 7}
    assert set(few.rows["list_id"]) < set(every.rows["list_id"])
    np.testing.assert_array_equal(np.stack(few.totals), np.stack(every.totals))


def test_of_drawn_ads_a_sample_has_the_counts_known_before_and_the_chance_of_a_draw(spark, storage):
    noon = [at(f"{DAY - timedelta(days=days)} 12:00") for days in (3, 2, 1)]
    rows = [event(f"{n}-{u}", "click", time, ad_id="aab"[n], user_id=u) for n, time in enumerate(noon) for u in "xyz"]
    log = {"weights": {"click": 1}, "impressions": [], "conversions": [], "searches": []}
    settings = {"train_days": 3, "validation_days": 0, "test_days": 0, "negatives_per_positive": 1}
    config = config_of().model_copy(update={"events": EventsConfig(**log), "training": TrainingConfig(**settings)})
    ads = ads_of(spark, *({"ad_id": one} for one in "abc"))
    tables = {"events": events_of(spark, *rows), "ads": ads}
    inputs = Inputs(tables, dict.fromkeys(tables, "in"), dict.fromkeys(tables, "@1"), has_consent=False)
    training_set = fill_training_tables(storage, config, inputs, as_of=DAY)
    found = sample_of(storage, training_set, ads="abc")
    newest = (
        found.rows.sort_values("run_date").drop_duplicates("ad_id", keep="last").set_index("ad_id").reindex([*"abc"])
    )
    assert found.totals.shown.tolist() == newest["ad_shown"].fillna(0).tolist()
    assert found.totals.clicks.tolist() == newest["ad_clicks"].fillna(0).tolist()
    assert found.totals.clicks[0] == 3  # all three, by the last day
    assert (found.examples.log_draw < 0).all()
    assert found.examples.were_drawn


def test_ads_without_a_record_are_counted_and_left_out_and_positions_are_read_where_asked(filled):
    storage, training_set, before = filled
    found = sample_of(storage, training_set, ads="a", positions=False)
    assert found.unknown == len(found.rows) == len(before) / 2
    assert np.isnan(found.examples.position).all()
    assert np.isnan(found.before.position).all()
    assert set(found.before.item[~found.before.clicked]) | set(found.before.item[found.before.clicked]) == {0, -1}


def test_what_was_shown_before_is_read_as_the_daily_job_reads_it(filled):
    storage, training_set, _ = filled
    of_set = storage.read(TRAINING_HISTORIES).where(F.col("training_set") == training_set)
    of_day = sequences.shown_before(of_set, clicks=["click"], by=["user_id", "history_id"])
    expected = {(row.user_id, row.history_id): row for row in of_day.collect()}
    found = sample_of(storage, training_set)
    for place, (user, history) in enumerate(
        zip(found.histories["user_id"], found.histories["history_id"], strict=True)
    ):
        known = slice(*found.before.offsets[place : place + 2])
        row = expected.get((user, history))
        assert ["ab"[item] for item in found.before.item[known]] == ([] if row is None else row.shown_ads)
        kinds = [] if row is None else [kind == "click" for kind in row.shown_types]
        assert found.before.clicked[known].tolist() == kinds
        began = found.histories["run_date"].iloc[place]
        ages = [] if row is None else [(began - pd.Timestamp(ts)) / pd.Timedelta(days=1) for ts in row.shown_ts]
        assert found.before.age_days[known] == pytest.approx([max(age, 0.0) for age in ages])


def test_neighbours_know_the_histories_before_their_day_of_those_who_may_be_counted(spark):
    """All 20 people of log_rows click one of two ads on each of two days; here the odd ones click the other too."""
    first, second = (at(f"{DAY - timedelta(days=days)} 13:00") for days in (2, 1))
    more = [event(f"more {n}", "click", first, ad_id="ba"[n % 2], user_id=f"user {n}") for n in range(1, 20, 2)]
    later = [event(f"later {n}", "click", second, ad_id="ba"[n % 2], user_id=f"user {n}") for n in range(0, 20, 2)]

    def near(rows, **training):
        inputs = inputs_of(spark)
        inputs.tables["events"] = events_of(spark, *rows)
        config = config_of().model_copy(update={"training": TrainingConfig(**SETTINGS | training)})
        return sorted(neighbours_before(inputs, config, DAY - timedelta(days=1), by="co_click").collect())

    known = near([*log_rows(), *more])
    assert [(row.ad_id, row.neighbours, row.similarities) for row in known] == [
        ("a", ["b"], [pytest.approx(10 / (20 * 10) ** 0.5)]),
        ("b", ["a"], [pytest.approx(10 / (20 * 10) ** 0.5)]),
    ]
    assert near([*log_rows(), *more, *later]) == known
    fewer = near([*log_rows(), *more], split="users", test_days=1, test_fold=0)
    assert fewer
    assert fewer != known
