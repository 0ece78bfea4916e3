"""Which worker reads which file, and batches cut where lists end, on Parquet files written here."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from llmrec_spark.model.example_batches import example_batches, example_files


@pytest.fixture
def written(tmp_path):
    """Writes a file a day, of lists of the given lengths; gives their URIs, as Delta names them."""

    def write(*days, row_group_size=4):
        files = []
        for day, lengths in enumerate(days, 1):
            folder = tmp_path / "training_set=abc" / f"run_date=2026-03-{day:02d}"
            folder.mkdir(parents=True)
            lists = [f"{day}-{number}" for number, length in enumerate(lengths) for _ in range(length)]
            rows = pa.table({"user_id": ["u"] * len(lists), "list_id": pa.array(lists, pa.string()), "number": lists})
            pq.write_table(rows, folder / "part-0.parquet", row_group_size=row_group_size)
            files.append(f"file:{folder}/part-0.parquet")
        return files

    return write


def lists(files, **options):
    """The lists of each batch, in order."""
    return [batch.column("list_id").to_pylist() for batch in example_batches(files, columns=["list_id"], **options)]


def test_a_list_longer_than_a_batch_stays_whole(written):
    assert lists(written([2, 7, 1]), batch_rows=3) == [["1-0"] * 2, ["1-1"] * 7, ["1-2"]]


def test_rows_that_need_not_lie_together_are_cut_anywhere(written):
    assert [len(batch) for batch in lists(written([2, 7, 1], row_group_size=10), batch_rows=4, together=())] == [
        4,
        4,
        2,
    ]


def test_the_set_and_the_day_are_read_from_the_path(written):
    [batch] = example_batches(written([1]), columns=["training_set", "run_date"])
    assert [{name: str(value) for name, value in row.items()} for row in batch.to_pylist()] == [
        {"training_set": "abc", "run_date": "2026-03-01"}
    ]


def test_a_file_without_rows_and_no_files_give_no_batch(written):
    assert lists(written([])) == lists([]) == []


def test_the_largest_files_are_dealt_first_each_to_the_worker_with_the_fewest_rows(written):
    files = written([5], [3], [9], [1])
    days = [[file[file.index("2026") :][:10] for file in example_files(files, rank=rank, workers=2)] for rank in (0, 1)]
    assert days == [["2026-03-03"], ["2026-03-01", "2026-03-02", "2026-03-04"]]


def test_a_seed_shuffles_the_files_of_a_worker_and_the_same_seed_alike(written):
    files = written(*[[1]] * 8)
    first, again, other = (example_files(files, seed=seed) for seed in (1, 1, 2))
    assert first == again != other
    assert sorted(first) == sorted(other) == example_files(files)


@pytest.mark.parametrize("rank, workers", [(-1, 2), (2, 2), (0, 0)])
def test_a_rank_that_is_none_of_the_workers_is_refused(rank, workers):
    with pytest.raises(ValueError, match="rank"):
        example_files([], rank=rank, workers=workers)
