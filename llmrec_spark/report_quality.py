"""How good the lists of a day were, section by section: plots and tables, or the reason why there are none."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from llmrec_spark.report_headlines import MISSING, Value, Values, baselines, card, cut_offs, headline_k, scorers_of
from llmrec_spark.report_parts import Cell, Plot, Section, Table, cell_of, table_of_cards
from llmrec_spark.report_plots import Dot, dot_plot, place_plot, reliability_plot
from llmrec_spark.report_words import (
    LISTS,
    OFF_POLICY,
    RANKINGS,
    SCORERS,
    TOTALS,
    UNKNOWN,
    interval,
    is_known,
    label_of,
    metric_of,
    number,
)

MARKS = {"better": "✓", "worse": "✗", "open": "≈", "unknown": UNKNOWN}
PLACES = {"position": "shown at this place", "rank": "ranked here by this run"}
MOST_SLICES = 12  # of one kind in a plot; the table has all
VARIETY_BASELINES = ("popularity", "random")


def totals_section(values: Values, before: Values, *, currency: str, empty: str) -> Section:
    """What the rates of the headlines are made of, with the change from the day evaluated before."""
    found = [metric for metric in TOTALS if ("score", metric, None, "all") in values]
    cards = [card(values, before, metric, None, currency=currency) for metric in found]
    table = table_of_cards(cards, "Totals", is_folded=False)
    return Section("totals", "Totals", "What the rates are made of.", (), [table], "" if found else empty)


def variety_section(values: Values, before: Values, *, empty: str) -> Section:
    """Coverage, diversity and what else lists are judged by beside their order, and which groups of ads they hold."""
    found = [(metric, k) for metric in LISTS for k in cut_offs(values, metric) if ("score", metric, k, "all") in values]
    measures = [Cell(label_of(metric, k), metric_of(metric).meaning) for metric, k in found]
    changes = [Cell(card(values, before, metric, k).change or UNKNOWN) for metric, k in found]
    rows = [
        [measure, *_beside_baselines(values, metric, k, "all"), change]
        for measure, (metric, k), change in zip(measures, found, changes, strict=True)
    ]
    columns = ["Measure", "This run", *VARIETY_BASELINES, "Since the day before"]
    tables = [Table(columns, rows, (4,), "Variety of the lists", is_folded=False), *_exposures(values)]
    lead = (
        "How varied the top of the lists is. popularity: the same most clicked ads for everybody (of those given to "
        "the user, where some are); random: what to expect by chance."
    )
    return Section("variety", "Variety of the lists", lead, (), tables, "" if found else empty)


def off_policy_section(values: Values, *, empty: str) -> Section:
    """What the lists of this run, and of one beside it, would have earned by the log's propensities."""
    title, lead = "What the lists would have earned", "Clicks per impression, estimated from the log's propensities."
    of = {key: value for key, value in values.items() if key[1] in OFF_POLICY and key[3] == "all"}
    scorers = sorted({key[0] for key in of}, key=lambda name: (name != "score", " - " in name, name))
    if not any(is_known(value.value) for value in of.values()):
        return Section("off-policy", title, "", empty=empty)
    rows = [
        [
            Cell(label_of(metric), metric_of(metric).meaning),
            *(cell_of(of.get((one, metric, None, "all"), MISSING), metric) for one in scorers),
        ]
        for metric in OFF_POLICY
    ]
    columns = ["Estimate", *("This run" if one == "score" else one for one in scorers)]
    refused = empty if not is_known(of.get(("score", "off_policy_dr", None, "all"), MISSING).value) else ""
    return Section("off-policy", title, f"{lead} {refused}", (), [Table(columns, rows, (), title, is_folded=False)])


def _exposures(values: Values) -> list[Table]:
    """Which share of the places each group of ads has, largest first, beside baselines."""
    shares = {key[3]: (value, key[2]) for key, value in values.items() if key[:2] == ("score", "exposure_share")}
    ordered = sorted(shares, key=lambda name: (name.partition("=")[0], -shares[name][0].value, name))
    rows = [
        [Cell(name.replace("=", ": ", 1)), *_beside_baselines(values, "exposure_share", shares[name][1], name)]
        for name in ordered
    ]
    columns = ["Group of ads", "This run", "popularity", "random: its share of the ads"]
    return [Table(columns, rows, title="Share of the places by group of ads")] if rows else []


def _beside_baselines(values: Values, metric: str, k: int | None, slice_name: str) -> list[Cell]:
    """A value of the run, then those of the baselines with their intervals only: they are over the same lists."""
    cells = [cell_of(values.get(("score", metric, k, slice_name), MISSING), metric)]
    kind = metric_of(metric).kind
    for scorer in VARIETY_BASELINES:
        value = values.get((scorer, metric, k, slice_name), MISSING)
        between = interval(value.low, value.high, kind) if value.low != value.high else ""  # one list has no spread
        cells.append(Cell(number(value.value, kind), between))
    return cells


def ranking_section(values: Values, *, empty: str) -> Section:
    """How well each order puts clicked ads first: a plot of the two headline metrics, tables of all."""
    scorers = scorers_of(values)
    metrics = [(metric, k) for metric in RANKINGS for k in cut_offs(values, metric)]
    if not scorers or not metrics:
        return Section("ranking", "Ranking against baselines", "", empty=empty)
    plots = []
    for metric in ("ndcg", "group_auc"):
        k, kind = headline_k(values, metric), metric_of(metric).kind
        dots = [
            Dot(scorer, value.value, value.low, value.high, is_marked=scorer == "score")
            for scorer in scorers
            if is_known((value := values.get((scorer, metric, k, "all"), MISSING)).value)
        ]
        if dots:
            title = f"{label_of(metric, k)} of each order"
            plots.append(Plot(title, dot_plot(f"ranking-{metric}", title, dots, kind=kind), metric_of(metric).meaning))
    columns = ["Metric", *scorers]
    rows = [
        [Cell(label_of(metric, k)), *(cell_of(values.get((one, metric, k, "all"), MISSING), metric) for one in scorers)]
        for metric, k in metrics
    ]
    lead = "The same lists in other orders. " + "; ".join(f"{one}: {SCORERS[one]}" for one in scorers if one in SCORERS)
    tables = [Table(columns, rows, title="All ranking metrics"), _differences(values, metrics)]
    return Section("ranking", "Ranking against baselines", f"{lead}.", plots, tables)


def calibration_section(reliability: pd.DataFrame, *, empty: str) -> Section:
    """Predicted against observed shares, one plot per probability."""
    title, lead = "Calibration", "Whether predicted probabilities come true. On the dashed line they do."
    if reliability.empty:
        return Section("calibration", title, "", empty=empty)
    plots, rows = [], []
    for place, (scorer, bins) in enumerate(reliability.groupby("scorer", sort=True)):
        bins = _floats(bins, "predicted", "observed", "low", "high").sort_values("predicted")
        drawn = bins.dropna(subset=["predicted", "observed"])
        if len(drawn):
            caption = f"{scorer}: observed against predicted"
            plots.append(Plot(caption, reliability_plot(f"calibration-{place}", caption, drawn), "Bars are intervals."))
        for one in bins.itertuples():
            observed = Cell(number(one.observed, "share"), interval(one.low, one.high, "share"))
            rows.append([Cell(str(scorer)), Cell(number(one.predicted, "share")), observed, Cell(f"{one.n:,.0f}")])
    table = Table(["Probability", "Predicted", "Observed", "Pairs"], rows, title="Numbers of the calibration")
    return Section("calibration", title, lead, plots, [table])


def places_section(values: Values, *, empty: str) -> Section:
    """Click rate by place in the list."""
    series = {}
    for kind, meaning in PLACES.items():
        found = [
            (int(key[3].partition("=")[2]), value)
            for key, value in values.items()
            if key[:3] == ("score", "ctr", None)
            and key[3].startswith(f"{kind}=")
            and key[3].partition("=")[2].isdigit()
        ]
        if found := sorted((place, value) for place, value in found if is_known(value.value)):
            series[f"{kind}: {meaning}"] = pd.DataFrame([(place, *value) for place, value in found], columns=_PLACED)
    if not series:
        return Section("places", "Click rate by place", "", empty=empty)
    rows = [
        [
            Cell(label.partition(":")[0]),
            Cell(str(row.place)),
            cell_of(Value(row.value, row.low, row.high, row.n), "ctr"),
        ]
        for label, table in series.items()
        for row in table.itertuples()
    ]
    plot = Plot("Click rate by place", place_plot("places-ctr", "Click rate by place", series), "Bars are intervals.")
    table = Table(["Place", "Number", "Click rate"], rows, title="Numbers by place")
    lead = f"How often an ad was clicked, by place ({'; '.join(series)})."
    return Section("places", "Click rate by place", lead, [plot], [table])


_PLACED = ["place", "value", "low", "high", "n"]


def segments_section(values: Values, *, empty: str) -> Section:
    """Ranking quality and click rate of each slice against all."""
    names = sorted({key[3] for key in values if key[0] == "score" and "=" in key[3] and key[1] != "exposure_share"})
    names = [name for name in names if name.partition("=")[0] not in PLACES]
    if not names:
        return Section("segments", "Quality by segment", "", empty=empty)
    wanted = [
        ("ctr", None),
        ("cvr", None),
        ("ndcg", headline_k(values, "ndcg")),
        ("group_auc", headline_k(values, "group_auc")),
    ]
    shown = [(metric, k) for metric, k in wanted if any(("score", metric, k, name) in values for name in names)]
    plots = [_segment_plot(values, metric, k, names) for metric, k in shown if metric in ("ndcg", "ctr")]
    rows = [
        [
            Cell(name.replace("=", ": ", 1)),
            *(cell_of(values.get(("score", metric, k, name), MISSING), metric) for metric, k in shown),
        ]
        for name in ("all", *names)
    ]
    table = Table(["Segment", *(label_of(metric, k) for metric, k in shown)], rows, title="Numbers by segment")
    lead = "Dashed line: all together. A square: its interval leaves out the value of all."
    return Section("segments", "Quality by segment", lead, [plot for plot in plots if plot], [table])


def _segment_plot(values: Values, metric: str, k: int | None, names: Sequence[str]) -> Plot | None:
    """One dot per slice, best first within its kind; of a kind with many, the largest."""
    overall = values.get(("score", metric, k, "all"), MISSING).value
    kinds: dict[str, list[tuple[str, Value]]] = {}
    for name in names:
        value = values.get(("score", metric, k, name), MISSING)
        if is_known(value.value):
            kinds.setdefault(name.partition("=")[0], []).append((name.partition("=")[2], value))
    dots, left_out = [], 0
    for kind, found in kinds.items():
        largest = sorted(found, key=lambda one: (-(one[1].n or 0), one[0]))[:MOST_SLICES]
        left_out += len(found) - len(largest)
        dots.append(Dot(kind))
        for name, value in sorted(largest, key=lambda one: (-one[1].value, one[0])):
            differs = is_known(value.low, value.high, overall) and not value.low <= overall <= value.high
            dots.append(Dot(name, value.value, value.low, value.high, differs))
    if not dots:
        return None
    title = f"{label_of(metric, k)} by segment"
    drawing = dot_plot(f"segments-{metric}", title, dots, kind=metric_of(metric).kind, reference=overall)
    reading = f"The {MOST_SLICES} largest of each kind; {left_out} more stand in the table." if left_out else ""
    return Plot(title, drawing, reading)


def _differences(values: Values, metrics: Sequence[tuple[str, int | None]]) -> Table:
    """Every paired difference of the run's order, with what its interval says."""
    rows = [
        [
            Cell(label_of(metric, k)),
            Cell(f"score − {row.scorer}"),
            Cell(row.difference, row.interval),
            Cell(f"{MARKS[row.mark]} {row.words}"),
        ]
        for metric, k in metrics
        for row in baselines(values, metric, k)
        if row.difference
    ]
    return Table(["Metric", "Difference", "Value", "In words"], rows, (1, 3), "All paired differences")


def _floats(table: pd.DataFrame, *names: str) -> pd.DataFrame:
    """These columns as floats, unknown as NaN."""
    return table.assign(**{name: pd.to_numeric(table[name]).astype("Float64").astype(float) for name in names})
