import argparse
import logging
from datetime import date

import pytest

from llmrec_spark import errors
from llmrec_spark.command_line import add_days, add_search, days, exit_with, parser, search_of
from llmrec_spark.errors import LlmrecError, UsageError


@pytest.fixture
def asked():
    """The days a command line asks for."""

    def parse(*arguments):
        options = argparse.ArgumentParser()
        add_days(options)
        return days(options.parse_args(arguments))

    return parse


@pytest.fixture
def ended(monkeypatch):
    """The exit code of a job, None if it returned."""
    monkeypatch.setattr(logging.Logger, "setLevel", lambda *_: None)  # of libraries: of this process alone

    def run(job):
        try:
            exit_with(job)
        except SystemExit as end:
            return end.code
        return None

    return run


def failing(error):
    def job():
        raise error

    return job


def test_one_date_is_one_day(asked):
    assert asked("--date", "2026-03-01") == [date(2026, 3, 1)]


def test_a_range_holds_both_its_ends_in_order(asked):
    assert asked("--from", "2026-02-27", "--to", "2026-03-01") == [
        date(2026, 2, 27),
        date(2026, 2, 28),
        date(2026, 3, 1),
    ]


def test_a_range_may_be_one_day(asked):
    assert asked("--from", "2024-02-29", "--to", "2024-02-29") == [date(2024, 2, 29)]


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--from", "2026-03-01"],
        ["--to", "2026-03-01"],
        ["--date", "2026-03-01", "--to", "2026-03-01"],
        ["--date", "2026-03-01", "--from", "2026-03-01"],
        ["--date", "2026-03-01", "--from", "2026-03-01", "--to", "2026-03-01"],
    ],
    ids=["none", "first only", "last only", "date and last", "date and first", "all"],
)
def test_days_come_as_one_date_or_as_a_whole_range(asked, arguments):
    with pytest.raises(UsageError, match="give either --date D, or --from D and --to D"):
        asked(*arguments)


def test_a_range_that_runs_backwards_is_refused(asked):
    with pytest.raises(UsageError, match="--from 2026-03-02 --to 2026-03-01: the last day is before the first"):
        asked("--from", "2026-03-02", "--to", "2026-03-01")


@pytest.mark.parametrize("text", ["2026-02-30", "yesterday", "01.03.2026", ""])
def test_what_is_no_day_is_a_usage_error_that_shows_it(asked, text, capsys):
    with pytest.raises(SystemExit) as end:
        asked("--date", text)
    assert end.value.code == 2
    assert f"found {text!r}, expected a day such as 2026-03-01" in capsys.readouterr().err


def test_a_configuration_must_be_named(capsys):
    with pytest.raises(SystemExit) as end:
        parser("a job").parse_args([])
    assert end.value.code == 2


def test_overrides_are_collected_in_order():
    arguments = parser("a job").parse_args(["--config", "c.yaml", "--set", "a=1", "--set", "b=2"])
    assert arguments.overrides == ["a=1", "b=2"]


def test_no_override_is_an_empty_list_of_ones_own():
    parser("a job").parse_args(["--config", "c.yaml", "--set", "a=1"])
    assert parser("a job").parse_args(["--config", "c.yaml"]).overrides == []


def test_a_job_that_returns_ends_with_0(ended):
    assert ended(lambda: None) is None


@pytest.mark.parametrize(
    "name, code",
    [
        ("UsageError", 2),
        ("DataError", 65),
        ("MissingDependencyError", 69),
        ("AuditError", 70),
        ("TryAgainError", 75),
        ("ConfigError", 78),
        ("ModelError", 78),
        ("AlertError", 79),
    ],
)
def test_an_error_ends_with_the_code_of_its_kind(ended, name, code):
    assert ended(failing(getattr(errors, name)("no"))) == code


def test_every_kind_of_error_has_a_code_of_sysexits_and_alerts_the_one_after_them():
    assert {kind.exit_code for kind in LlmrecError.__subclasses__()} == {2, 65, 69, 70, 75, 77, 78, 79}


def test_an_error_is_one_message_without_a_traceback(ended, capsys):
    ended(failing(errors.DataError("ads: no row. Check inputs.ads.")))
    assert capsys.readouterr().err == "DataError: ads: no row. Check inputs.ads.\n"


class ConcurrentModificationError(Exception):
    """What Delta's Python side raises is named like it."""


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("io.delta.exceptions.ConcurrentAppendException: [DELTA_X] Files were added\n  at Foo.java"),
        ConcurrentModificationError("Files were added\n  at Foo.java"),
    ],
    ids=["named in the message", "named by its class"],
)
def test_another_writer_of_the_same_rows_means_try_again(ended, capsys, error):
    assert ended(failing(error)) == 75
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("TryAgainError: ")
    assert line.endswith("Files were added")


def test_an_error_nobody_foresaw_keeps_its_traceback(ended):
    with pytest.raises(ZeroDivisionError):
        ended(lambda: 1 / 0)


@pytest.mark.parametrize(
    "arguments, found",
    [
        ((), None),
        (("--search", "20"), (20, None)),
        (("--search", "2", "--search-minutes", "1.5"), (2, 1.5)),
    ],
)
def test_a_search_is_asked_for_by_its_trials(arguments, found):
    options = argparse.ArgumentParser()
    add_search(options)
    assert search_of(options.parse_args(arguments)) == found


@pytest.mark.parametrize("wrong", [("--search", "0"), ("--search", "x"), ("--search-minutes", "-1")])
def test_a_search_that_cannot_be_is_refused(wrong, capsys):
    options = argparse.ArgumentParser()
    add_search(options)
    with pytest.raises(SystemExit):
        options.parse_args(wrong)
    assert f"found '{wrong[1]}', expected " in capsys.readouterr().err


def test_minutes_of_no_search_are_refused():
    options = argparse.ArgumentParser()
    add_search(options)
    with pytest.raises(UsageError, match="give --search N too"):
        search_of(options.parse_args(["--search-minutes", "5"]))
