"""The examples streamed from the data files of their table: Arrow batches of whole lists, a file at a time.

Nothing is collected and no JVM is needed. The files are those that `DataFrame.inputFiles()` names of one snapshot
(a replaced day leaves its old files behind, so a folder must not be read as it is); the training set and the day are
in their paths, as Delta writes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from pyarrow import fs

LIST = ("user_id", "list_id")  # rows that lie together in a file and belong into one batch
PARTITIONS = pa.schema([("training_set", pa.string()), ("run_date", pa.date32())])


def example_files(files: Iterable[str], *, rank: int = 0, workers: int = 1, seed: int | None = None) -> list[str]:
    """The files that worker `rank` of `workers` reads, in order: each file has one reader.

    The largest files are dealt first, each to the worker with the fewest rows so far, so workers differ by less than
    a file. With a `seed` each worker's files are shuffled, otherwise they are in order of their paths.
    """
    if not 0 <= rank < workers:
        raise ValueError(f"rank {rank} of {workers} workers: expected 0 <= rank < workers.")
    sizes = {file: _dataset(file).count_rows() for file in files}
    loads = np.zeros(workers, dtype=np.int64)
    own = []
    for file in sorted(sizes, key=lambda name: (-sizes[name], name)):
        worker = int(loads.argmin())
        loads[worker] += sizes[file]
        if worker == rank:
            own.append(file)
    own.sort()
    return own if seed is None else [own[place] for place in np.random.default_rng(seed).permutation(len(own))]


def example_batches(
    files: Iterable[str],
    *,
    columns: Sequence[str],
    where: ds.Expression | None = None,
    batch_rows: int = 8_192,
    together: Sequence[str] = LIST,
) -> Iterator[pa.RecordBatch]:
    """The rows of `files` in their order, `columns` only, of the rows for which `where` holds.

    A batch has about `batch_rows` rows and never a part of a list: neighbouring rows of equal `together` stay in one
    batch (none: rows are free). In memory is a batch, and what Arrow reads ahead of one file.
    """
    read = [*columns, *(name for name in together if name not in columns)]
    for file in files:
        scanned = _dataset(file).scanner(columns=read, filter=where, batch_size=batch_rows, fragment_readahead=1)
        for batch in _whole(scanned.to_batches(), together):
            yield batch.select(list(columns))


def _dataset(file: str) -> ds.Dataset:
    system, path = _located(file)
    in_path = ds.partitioning(PARTITIONS, flavor="hive")
    return ds.dataset([path], filesystem=system, format="parquet", partitioning=in_path)


def _located(file: str) -> tuple[fs.FileSystem, str]:
    """The file system and the path of a file as Delta names it: a URI, but nothing in it is encoded."""
    scheme, _, path = file.partition(":")
    if scheme == "file":
        return fs.LocalFileSystem(), "/" + path.lstrip("/")
    located: tuple[fs.FileSystem, str] = fs.FileSystem.from_uri(f"{scheme.replace('s3a', 's3')}:{quote(path)}")
    return located


def _whole(batches: Iterable[pa.RecordBatch], together: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """The same rows in batches that end where a list ends."""
    rest: pa.RecordBatch | None = None
    for batch in batches:
        if not batch.num_rows:
            continue
        rows = batch if rest is None else _joined(rest, batch)
        last = _last_start(rows, together)
        if last:
            yield rows.slice(0, last)
        rest = rows.slice(last)
    if rest is not None and rest.num_rows:
        yield rest


def _last_start(rows: pa.RecordBatch, together: Sequence[str]) -> int:
    """Where the last list of the rows begins; their number where rows are free."""
    if not together:
        return int(rows.num_rows)
    starts = np.zeros(max(rows.num_rows - 1, 0), dtype=bool)
    for name in together:
        column = rows.column(name)
        differs = pc.not_equal(column.slice(1), column.slice(0, rows.num_rows - 1))
        starts |= differs.to_numpy(zero_copy_only=False)
    places = np.flatnonzero(starts)
    return int(places[-1]) + 1 if len(places) else 0


def _joined(first: pa.RecordBatch, second: pa.RecordBatch) -> pa.RecordBatch:
    [joined] = pa.Table.from_batches([first, second]).combine_chunks().to_batches()
    return joined
