"""What every job shares: common options, and errors as one message with the exit code of its kind."""

from __future__ import annotations

import argparse
import logging
import math
import re
import sys
import warnings
from collections.abc import Callable
from datetime import date, timedelta

from llmrec_spark import errors
from llmrec_spark.errors import LlmrecError, TryAgainError, UsageError


def parser(description: str) -> argparse.ArgumentParser:
    """A parser with --config and --set."""
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--config", required=True, help="YAML file of conf/")
    options.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="overrides",
        help="e.g. match.beta=0.5; repeatable",
    )
    return options


def add_days(options: argparse.ArgumentParser) -> None:
    """--date, or --from and --to."""
    options.add_argument("--date", type=day, help="the day to show the lists on, YYYY-MM-DD")
    options.add_argument("--from", type=day, dest="first", metavar="DATE", help="first day of a back-fill")
    options.add_argument("--to", type=day, dest="last", metavar="DATE", help="last day of a back-fill, inclusive")


def add_search(options: argparse.ArgumentParser) -> None:
    """--search and --search-minutes."""
    options.add_argument(
        "--search",
        type=number,
        metavar="N",
        help="try N settings of `ranker` first, by lists of validation; see search:",
    )
    options.add_argument(
        "--search-minutes",
        type=minutes,
        metavar="M",
        help="begin no more of them after M minutes; the best so far is used",
    )


def search_of(arguments: argparse.Namespace) -> tuple[int, float | None] | None:
    """The trials and minutes asked for; None without --search. Raises UsageError for minutes of no search."""
    if arguments.search is None and arguments.search_minutes is not None:
        raise UsageError("--search-minutes is of a search: give --search N too.")
    return None if arguments.search is None else (arguments.search, arguments.search_minutes)


def number(text: str) -> int:
    """A count from 1 of the command line."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a whole number from 1")
    return int(text)


def minutes(text: str) -> float:
    """A time of the command line, more than 0."""
    try:
        found = float(text)
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected minutes, more than 0")
    return found


def days(arguments: argparse.Namespace) -> list[date]:
    """The days asked for, in order. Raises UsageError for both forms, none, or a range that runs backwards."""
    first, last = arguments.first, arguments.last
    if arguments.date is not None and first is None and last is None:
        return [arguments.date]
    if arguments.date is not None or first is None or last is None:
        raise UsageError("give either --date D, or --from D and --to D.")
    if last < first:
        raise UsageError(f"--from {first} --to {last}: the last day is before the first.")
    return [first + timedelta(days=number) for number in range((last - first).days + 1)]


def day(text: str) -> date:
    """A day of the command line."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"found {text!r}, expected a day such as 2026-03-01") from error


def exit_with(job: Callable[[], None]) -> None:
    """Runs a job and exits: 0, or the code of the error whose message it prints, without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    for noisy in ("mlflow", "alembic", "py4j", "transformers"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    try:
        job()
    except LlmrecError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        raise SystemExit(error.exit_code) from None
    except Exception as error:
        worker = re.search(r"llmrec_spark\.errors\.(\w+): (.*)", str(error))  # raised on an executor
        kind: type[LlmrecError] | None = getattr(errors, worker[1], None) if worker else None
        if worker and kind is not None:
            print(f"{worker[1]}: {worker[2]}", file=sys.stderr, flush=True)
            raise SystemExit(kind.exit_code) from None
        if "ConcurrentAppendException" in str(error) or "ConcurrentModification" in type(error).__name__:
            print(f"TryAgainError: {str(error).splitlines()[0]}", file=sys.stderr, flush=True)
            raise SystemExit(TryAgainError.exit_code) from None
        raise
