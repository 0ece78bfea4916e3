"""What a section of a report consists of: plots, and tables of cells."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from llmrec_spark.report_headlines import Card, Value
from llmrec_spark.report_words import UNKNOWN, interval, is_known, metric_of, number


@dataclass(frozen=True)
class Cell:
    """`note` stands below `text`, small; `is_alert` makes it stand out."""

    text: str
    note: str = ""
    is_alert: bool = False


@dataclass(frozen=True)
class Table:
    """The first cell of a row is its heading; `words`: which columns are read as words, not compared as numbers."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    words: Sequence[int] = ()
    title: str = ""
    is_folded: bool = True


@dataclass(frozen=True)
class Plot:
    """A drawing, its title, and a sentence on how to read it."""

    title: str
    drawing: Markup
    reading: str = ""


@dataclass(frozen=True)
class Section:
    """`empty` says why there is nothing to see."""

    name: str
    title: str
    lead: str
    plots: Sequence[Plot] = ()
    tables: Sequence[Table] = ()
    empty: str = ""


def cell_of(value: Value, metric: str) -> Cell:
    """A value, its interval below it, and how many it is over."""
    kind = metric_of(metric).kind
    notes = [interval(value.low, value.high, kind), f"n {value.n:,}" if is_known(value.n) else ""]
    return Cell(number(value.value, kind), ", ".join(note for note in notes if note))


def table_of_cards(cards: Sequence[Card], title: str, *, is_folded: bool) -> Table:
    """Numbers of the day below each other, each with what it means and how it changed."""
    rows = [[Cell(one.label, one.meaning), Cell(one.value, one.interval), Cell(one.change or UNKNOWN)] for one in cards]
    return Table(["Measure", "Today", "Since the day before"], rows, (2,), title, is_folded)
