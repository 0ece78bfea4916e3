"""What a training costs: seconds, and the most memory the process had meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

STATM = Path("/proc/self/statm")  # of Linux; elsewhere memory is unknown
EVERY_S = 0.02


@dataclass
class Cost:
    """Of the block it was measured over."""

    seconds: float = 0.0
    peak_mb: float | None = None  # of the whole process, what it held before included


@contextmanager
def measured() -> Iterator[Cost]:
    """A Cost that is filled when the block ends; memory is looked at 50 times a second."""
    cost, ended, began = Cost(), threading.Event(), time.monotonic()
    watcher = threading.Thread(target=_watch, args=(cost, ended), daemon=True)
    watcher.start()
    try:
        yield cost
    finally:
        ended.set()
        watcher.join()
        cost.seconds = time.monotonic() - began


def _watch(cost: Cost, ended: threading.Event) -> None:
    if not STATM.exists():
        return
    page = os.sysconf("SC_PAGE_SIZE")
    while True:
        held = int(STATM.read_text().split()[1]) * page / 1e6
        cost.peak_mb = max(cost.peak_mb or 0.0, held)
        if ended.wait(EVERY_S):
            return
