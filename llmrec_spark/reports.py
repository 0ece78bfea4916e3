"""The report of an evaluated day: one HTML file that needs nothing else, for who decides about the ads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from importlib import resources

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from llmrec_spark.report_headlines import day_before, headlines, in_short, values_of
from llmrec_spark.report_parts import Section
from llmrec_spark.report_quality import (
    MARKS,
    calibration_section,
    off_policy_section,
    places_section,
    ranking_section,
    segments_section,
    totals_section,
    variety_section,
)
from llmrec_spark.report_run import cost_section, drift_section, examples_section, scores_section


@dataclass(frozen=True)
class ReportData:
    """All that a report says. Frames may be empty; what is not known is NaN, NULL or absent.

    evaluations  scorer, metric, k (NULL without a cut-off), slice, value, low, high, n: of this run
    previous     the same and run_date: of days evaluated before
    reliability  scorer, bin, predicted, observed, low, high, n
    scores       column -> day -> a sample of its values; the newest day last
    drift        name, value, before (mean of the window), bound, is_alert, reason
    examples     kind (best or worst), user_id, rank, title, clicked, score, reasons (a sentence); None leaves the
                 section out, and with it every user's id
    """

    run_date: date
    run_id: str
    model_version: str
    model_digest: str
    input_versions: Mapping[str, str]  # input -> "table id@version"
    evaluated_through: datetime  # UTC: how far the log reached
    evaluations: pd.DataFrame
    previous: pd.DataFrame
    reliability: pd.DataFrame
    scores: Mapping[str, Mapping[str, np.ndarray]]
    drift: pd.DataFrame
    seconds: Mapping[str, float]  # per stage of the run
    counts: Mapping[str, int]
    not_computed: Sequence[tuple[str, str]]  # what, why
    examples: pd.DataFrame | None
    interval_level: float = 0.95
    currency: str = ""  # of revenue and cost


def render_report(data: ReportData) -> str:
    """The page as text. The same data gives the same bytes."""
    return _page(data, [*_sections(data), *_examples(data)])


def render_editions(data: ReportData) -> tuple[str, str]:
    """The page without its examples, and with them: drawn once."""
    sections = _sections(data)
    return _page(data, sections), _page(data, [*sections, *_examples(data)])


def _page(data: ReportData, sections: Sequence[Section]) -> str:
    values = values_of(data.evaluations)
    compared, before = day_before(data.previous, data.run_date)
    cards = headlines(values, before, currency=data.currency)
    alerts = [] if data.drift.empty else [str(name) for name in data.drift["name"][data.drift["is_alert"].astype(bool)]]
    template = resources.files("llmrec_spark").joinpath("report.html").read_text(encoding="utf-8")
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return page.from_string(template).render(
        data=data,
        through=f"{data.evaluated_through:%Y-%m-%d %H:%M} UTC",
        compared=compared,
        in_short=in_short(cards, alerts, [what for what, _ in data.not_computed]),
        cards=cards,
        marks=MARKS,
        sections=sections,
    )


def _examples(data: ReportData) -> list[Section]:
    return examples_section(data.examples, empty="No list has both clicked and unclicked ads.")


def _sections(data: ReportData) -> list[Section]:
    """Every section but the examples, in the order of the page; an empty one says why."""
    values = values_of(data.evaluations)
    _, before = day_before(data.previous, data.run_date)

    def empty(otherwise: str, *words: str) -> str:
        for what, why in data.not_computed:
            if any(word in what.lower() for word in words):
                return f"Not computed: {what}. {why}"
        return otherwise

    nothing = "Nothing was evaluated on this day."
    return [
        totals_section(values, before, currency=data.currency, empty=empty(nothing, "outcome")),
        ranking_section(values, empty=empty(nothing, "ranking")),
        calibration_section(data.reliability, empty=empty("No probability was compared with clicks.", "calibration")),
        places_section(values, empty=empty("No click rate by place was computed.", "position", "by place")),
        segments_section(values, empty=empty("No segment was evaluated.", "segment")),
        variety_section(values, before, empty=empty("No measure of variety was computed.", "variety")),
        off_policy_section(values, empty=empty("The log has no propensities.", "off-policy")),
        drift_section(data.drift, empty=empty("No drift was checked.", "drift")),
        scores_section(data.scores, empty=empty("No sample of scores was kept.", "distribution")),
        cost_section(data.seconds, empty=empty("The run recorded no times.", "stage")),
    ]
