"""The run behind the lists, section by section: its scores, what drifted, its time, what it was made from, examples."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from llmrec_spark.report_parts import Cell, Plot, Section, Table
from llmrec_spark.report_plots import bar_plot, distribution_plot
from llmrec_spark.report_words import UNKNOWN, duration, is_known, number, plain

QUANTILES = (5, 50, 95)


def scores_section(scores: Mapping[str, Mapping[str, np.ndarray]], *, empty: str) -> Section:
    """How the values of a day are distributed, beside the days before."""
    plots, rows = [], []
    for column, by_day in scores.items():
        days = {day: np.asarray(values, dtype=float) for day, values in by_day.items()}
        days = {day: known for day, values in days.items() if len(known := values[np.isfinite(values)])}
        if not days:
            continue
        *earlier, today = days
        before = np.concatenate([days[day] for day in earlier]) if earlier else np.empty(0)
        label = f"{len(earlier)} {'day' if len(earlier) == 1 else 'days'} before"
        drawing = distribution_plot(
            f"scores-{column}", f"Distribution of {column}", days[today], before, label_before=label
        )
        plots.append(Plot(f"{column} on {today}", drawing, "" if earlier else "No earlier day to compare with."))
        rows += [[Cell(column), Cell(day), *_spread(values)] for day, values in days.items()]
    if not plots:
        return Section("scores", "Distribution of scores", "", empty=empty)
    columns = ["Column", "Day", "Values", "Mean", *(f"{q} %" for q in QUANTILES)]
    lead = "Share of values per bin; the outermost 0.5 % at either end are left out of the picture."
    return Section("scores", "Distribution of scores", lead, plots, [Table(columns, rows, (1,), "Numbers by day")])


def drift_section(drift: pd.DataFrame, *, empty: str) -> Section:
    """What is watched from day to day, alerts first."""
    if drift.empty:
        return Section("drift", "Drift", "", empty=empty)
    checks = drift.assign(is_alert=drift["is_alert"].astype(bool))
    rows = []
    for one in checks.sort_values("is_alert", ascending=False, kind="stable").to_dict("records"):
        today, before, bound = (_number(one[name]) for name in ("value", "before", "bound"))
        calm = "no bound" if bound == UNKNOWN else "✓ in bounds"
        state = Cell("⚠ alert", is_alert=True) if one["is_alert"] else Cell(calm)
        reason = "" if pd.isna(one["reason"]) else str(one["reason"])
        rows.append([Cell(str(one["name"]), reason), state, Cell(today), Cell(before), Cell(bound)])
    alerts = int(checks["is_alert"].sum())
    raised = f"{alerts} of {len(checks)} checks {'raises' if alerts == 1 else 'raise'} an alert."
    columns = ["Check", "State", "Today", "Mean before", "Bound"]
    lead = f"Today against the days before. {raised if alerts else f'None of {len(checks)} checks raises an alert.'}"
    return Section("drift", "Drift", lead, (), [Table(columns, rows, (1,), "Drift", is_folded=False)])


def cost_section(seconds: Mapping[str, float], *, empty: str) -> Section:
    """How long each stage of the run took."""
    known = {stage: value for stage, value in seconds.items() if is_known(value)}
    if not known:
        return Section("seconds", "Time per stage", "", empty=empty)
    total = sum(known.values())
    plot = Plot("Time per stage", bar_plot("seconds-bars", "Time per stage", known), "")
    rows = [
        [Cell(stage), Cell(number(value)), Cell(f"{100 * value / total:.1f} %" if total else UNKNOWN)]
        for stage, value in known.items()
    ]
    table = Table(["Stage", "Seconds", "Share"], rows, title="Numbers by stage")
    return Section("seconds", "Time per stage", f"{duration(total)} in all.", [plot], [table])


def examples_section(examples: pd.DataFrame | None, *, empty: str) -> list[Section]:
    """Whole lists of a few users, the best first; no section where there are no examples to show at all."""
    if examples is None:
        return []
    tables = []
    for (kind, user), ads in examples.sort_values("rank", kind="stable").groupby(["kind", "user_id"], sort=True):
        rows = [
            [
                Cell(str(ad["rank"])),
                Cell(str(ad["title"]), "" if pd.isna(ad["reasons"]) else str(ad["reasons"])),
                Cell(_number(ad["score"])),
                Cell("✓ clicked" if pd.notna(ad["clicked"]) and ad["clicked"] else ""),
            ]
            for ad in ads.to_dict("records")
        ]
        title = f"{str(kind).capitalize()}: user {user}"
        tables.append(Table(["Place", "Ad", "Score", "Clicked"], rows, (1, 3), title, is_folded=False))
    lead = "Single lists that were ordered best and worst. This edition names users: keep it beside the tables."
    return [Section("examples", "Examples", lead, (), tables, "" if tables else empty)]


def _number(value: object) -> str:
    return UNKNOWN if pd.isna(value) else plain(float(str(value)))


def _spread(values: np.ndarray) -> list[Cell]:
    quantiles = [float(value) for value in np.percentile(values, QUANTILES)]
    return [Cell(f"{len(values):,}"), *(Cell(number(value)) for value in (float(values.mean()), *quantiles))]
