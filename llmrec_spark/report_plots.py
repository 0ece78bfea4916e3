"""The plots of a report. No plot needs its colours: what they tell apart differs in marker and line too."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llmrec_spark.report_drawings import BLUE, GREEN, MUTED, VERMILLION, drawn
from llmrec_spark.report_words import duration, is_known, number

SERIES = ((BLUE, "o", "-"), (VERMILLION, "s", "--"), (GREEN, "^", ":"))  # colour, marker, line
LETTER, LONGEST_LABEL = 0.078, 24  # width of a letter in inches; letters of a label
STEPS = [1, 2, 5, 10]  # between the ticks of an axis
BINS, OUTLIERS = 40, 0.5  # per cent left out at either end
PERCENT = FuncFormatter(lambda value, _: f"{100 * value:.6g} %")


@dataclass(frozen=True)
class Dot:
    """One row of a dot plot; `is_marked` draws it as a full square. Without a value it is a heading."""

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    is_marked: bool = False


def dot_plot(name: str, title: str, dots: Sequence[Dot], *, kind: str, reference: float | None = None) -> Markup:
    """Values with their intervals, one below the other; `reference` is a line from top to bottom."""

    def paint(axes: Axes) -> None:
        places = range(len(dots))
        for place, dot in zip(places, dots, strict=True):
            if dot.value is None:
                continue
            colour, marker, _ = SERIES[1 if dot.is_marked else 0]
            if dot.low is not None and dot.high is not None and is_known(dot.low, dot.high):
                axes.hlines(place, dot.low, dot.high, colors=colour, linewidth=1.6)
            axes.plot([dot.value], [place], marker, color=colour, markersize=6, clip_on=False)
            words = number(dot.value, kind)
            axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=9)
        if reference is not None and is_known(reference):
            axes.axvline(reference, color=MUTED, linestyle="--", linewidth=1)
        axes.set_yticks(list(places), [_short(dot.label) for dot in dots])
        for tick, dot in zip(axes.get_yticklabels(), dots, strict=True):
            tick.set_fontweight("bold" if dot.value is None else "normal")
        axes.set_ylim(len(dots) - 0.4, -0.6)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        if kind == "share":
            axes.xaxis.set_major_formatter(PERCENT)

    said = [f"{dot.label} {_said(dot.value, dot.low, dot.high, kind)}" for dot in dots if dot.value is not None]
    left = 0.15 + LETTER * max((_width(_short(dot.label)) for dot in dots), default=0)
    height = 0.45 + 0.26 * len(dots)
    return drawn(name, title, "; ".join(said), paint, height=height, left=left, bottom=0.35, right=0.62)


def reliability_plot(name: str, title: str, bins: pd.DataFrame) -> Markup:
    """Observed against predicted share with intervals, and the line on which a calibrated model lies."""
    observed = [*bins["observed"], *bins["high"].dropna()]
    top = 1.08 * max([*bins["predicted"], *observed])
    rows = list(bins[["predicted", "observed", "low", "high"]].itertuples(index=False, name=None))

    def paint(axes: Axes) -> None:
        axes.plot([0, top], [0, top], linestyle="--", color=MUTED, linewidth=1)
        axes.text(0.84 * top, 0.88 * top, "as predicted", color=MUTED, fontsize=9, ha="right", va="bottom")
        for predicted, _, low, high in rows:
            axes.vlines(predicted, low, high, colors=BLUE, linewidth=1.6)
        axes.plot(bins["predicted"], bins["observed"], "o", color=BLUE, markersize=6)
        axes.set(xlim=(0, top), ylim=(0, top), xlabel="predicted", ylabel="observed")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(5, steps=STEPS))
            axis.set_major_formatter(PERCENT)

    said = [f"predicted {number(p, 'share')}, observed {_said(o, low, high, 'share')}" for p, o, low, high in rows]
    return drawn(name, title, "; ".join(said), paint, height=3.4)


def place_plot(name: str, title: str, series: Mapping[str, pd.DataFrame]) -> Markup:
    """A share by place in a list, with intervals: per series a table of place, value, low, high."""

    def paint(axes: Axes) -> None:
        for number_of_series, (label, table) in enumerate(series.items()):
            colour, marker, line = SERIES[number_of_series % len(SERIES)]
            shift = 0.12 * number_of_series  # so that intervals at one place do not hide each other
            places = table["place"] + shift
            axes.vlines(places, table["low"], table["high"], colors=colour, linewidth=1.6)
            axes.plot(places, table["value"], marker=marker, linestyle=line, color=colour, label=label, markersize=6)
        axes.set_xlabel("place in the list")
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        axes.xaxis.set_major_locator(MaxNLocator(12, integer=True))
        axes.yaxis.set_major_formatter(PERCENT)
        if len(series) > 1:
            axes.legend()

    said = [
        f"{label} {row.place:.0f}: {_said(row.value, row.low, row.high, 'share')}"
        for label, table in series.items()
        for row in table.itertuples()
    ]
    return drawn(name, title, "; ".join(said), paint, height=2.9)


def distribution_plot(name: str, title: str, today: np.ndarray, before: np.ndarray, *, label_before: str) -> Markup:
    """How often each value occurs, today filled and in the days before dashed; `before` may be empty."""
    both = np.concatenate([today, before])
    low, high = np.percentile(both, [OUTLIERS, 100 - OUTLIERS])
    edges = np.linspace(low, high, BINS + 1) if high > low else np.linspace(low - 0.5, low + 0.5, BINS + 1)

    def paint(axes: Axes) -> None:
        for values, label, (colour, _, line) in zip((today, before), ("today", label_before), SERIES, strict=False):
            if len(values) == 0:
                continue
            shares = np.histogram(values, edges)[0] / len(values)
            axes.stairs(shares, edges, color=colour, linestyle=line, label=label, linewidth=1.6)
            if values is today:
                axes.stairs(shares, edges, fill=True, color=colour, alpha=0.18)
        axes.set_ylim(bottom=0)
        axes.grid(axis="x", visible=False)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        axes.yaxis.set_major_formatter(PERCENT)
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.16), ncols=2, borderaxespad=0)

    medians = [f"median today {number(float(np.median(today)))}"]
    medians += [f"{label_before} {number(float(np.median(before)))}"] if len(before) else []
    return drawn(name, title, "; ".join(medians), paint, height=2.4, bottom=0.35, top=0.36)


def bar_plot(name: str, title: str, seconds: Mapping[str, float]) -> Markup:
    """Seconds of each stage as bars, in the order they are given, with the duration in words."""

    def paint(axes: Axes) -> None:
        places = range(len(seconds))
        axes.barh(list(places), list(seconds.values()), color=BLUE, height=0.6)
        for place, value in zip(places, seconds.values(), strict=True):
            words = duration(value)
            axes.text(1.02, place, words, transform=axes.get_yaxis_transform(), va="center_baseline", fontsize=9)
        axes.set_yticks(list(places), [_short(stage) for stage in seconds])
        axes.set_ylim(len(seconds) - 0.4, -0.6)
        axes.set_xlim(left=0)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f} s"))

    left = 0.15 + LETTER * max(_width(_short(stage)) for stage in seconds)
    said = [f"{stage} {duration(value)}" for stage, value in seconds.items()]
    height = 0.45 + 0.26 * len(seconds)
    return drawn(name, title, "; ".join(said), paint, height=height, left=left, bottom=0.35, right=0.85)


def _said(value: float, low: float | None, high: float | None, kind: str) -> str:
    between = f" ({number(low, kind)} to {number(high, kind)})" if is_known(low, high) else ""
    return number(value, kind) + between


def _width(text: str) -> int:
    """Letters, an East Asian wide one counting as two."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def _short(text: str) -> str:
    if _width(text) <= LONGEST_LABEL:
        return text
    while _width(text) > LONGEST_LABEL - 1:
        text = text[:-1]
    return f"{text}…"
