"""A folder that appears complete or not at all, and the SHA-256 of what is in it."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """An empty folder beside `folder` to write into; renamed to `folder` at the end, removed if anything raises.

    A folder that was there before is replaced. A reader sees the old one, for an instant none, or the new one; of two
    writers at once, the later replaces the earlier.
    """
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as around:
        new = Path(around) / "new"
        new.mkdir()
        yield new
        if folder.exists():
            folder.rename(Path(around) / "old")
        new.rename(folder)


def link_or_copy(source: Path, target: Path) -> None:
    """The file `source` under another name: a hard link where the file system allows it."""
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copyfile(source, target)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
