"""What a report says first: the outcomes and ranking quality of the day, against the day before and the baselines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from math import nan
from typing import NamedTuple

import pandas as pd

from llmrec_spark.report_words import (
    OUTCOMES,
    RANKINGS,
    change,
    interval,
    is_known,
    label_of,
    metric_of,
    number,
    verdict,
)

FEW = 3  # things that one sentence can list
PREFERRED_K = 10  # the cut-off of the headlines, where it was evaluated


class Value(NamedTuple):
    """One evaluated number with its interval and the number of things it is a mean or total over."""

    value: float
    low: float
    high: float
    n: int | None


MISSING = Value(nan, nan, nan, None)
Key = tuple[str, str, int | None, str]  # scorer, metric, k, slice
Values = Mapping[Key, Value]


@dataclass(frozen=True)
class Baseline:
    """One other order of the same lists, and how much the run's order is better: words and mark of the difference."""

    scorer: str
    value: str
    difference: str
    interval: str
    mark: str
    words: str


@dataclass(frozen=True)
class Card:
    """One headline number; `is_apart`: its interval and that of the day before have nothing in common."""

    label: str
    meaning: str
    value: str
    interval: str
    change: str
    is_apart: bool | None
    baselines: Sequence[Baseline] = ()


def values_of(evaluations: pd.DataFrame) -> dict[Key, Value]:
    """Evaluations by scorer, metric, k and slice."""
    found: dict[Key, Value] = {}
    for row in evaluations.to_dict("records"):
        k = None if pd.isna(row["k"]) else int(row["k"])
        value, low, high = (nan if pd.isna(row[name]) else float(row[name]) for name in ("value", "low", "high"))
        n = None if pd.isna(row["n"]) else int(row["n"])
        scorer = "score" if row["scorer"] == "shown" else row["scorer"]  # what was shown is what the run ordered
        found[scorer, row["metric"], k, row["slice"]] = Value(value, low, high, n)
    return found


def day_before(previous: pd.DataFrame, run_date: date) -> tuple[str, dict[Key, Value]]:
    """The last evaluated day before `run_date` and its numbers; an empty string and nothing if there is none."""
    if previous.empty:
        return "", {}
    days = pd.to_datetime(previous["run_date"]).dt.date
    earlier = days[days < run_date]
    if earlier.empty:
        return "", {}
    return str(earlier.max()), values_of(previous[days == earlier.max()])


def cut_offs(values: Values, metric: str) -> list[int | None]:
    """At which k a metric was evaluated over all lists, smallest first; [None] for a metric without."""
    found = {key[2] for key in values if key[1] == metric and key[3] == "all"}
    return sorted(found, key=lambda k: (k is not None, k or 0))


def headline_k(values: Values, metric: str) -> int | None:
    """The cut-off that the headlines show: 10, or else the largest."""
    found = cut_offs(values, metric)
    return PREFERRED_K if PREFERRED_K in found else found[-1] if found else None


def scorers_of(values: Values) -> list[str]:
    """The orders that were compared, the run's own first; without the differences between them."""
    found = dict.fromkeys(key[0] for key in values if key[1] in RANKINGS and " - " not in key[0])
    known = ["score", "match", "rate", "popularity", "repeats", "random"]
    return [one for one in known if one in found] + sorted(one for one in found if one not in known)


def headlines(values: Values, before: Values, *, currency: str) -> list[Card]:
    """The outcomes of the day, then how well its lists are ordered, beside the baselines."""
    outcomes = [card(values, before, metric, None, currency=currency) for metric in OUTCOMES]
    ranking = [
        card(values, before, metric, headline_k(values, metric), currency=currency) for metric in ("ndcg", "group_auc")
    ]
    return outcomes + ranking


def card(values: Values, before: Values, metric: str, k: int | None, *, currency: str = "") -> Card:
    """A number of the run's order over all lists."""
    kind = metric_of(metric).kind
    key = ("score", metric, k, "all")
    now, then = values.get(key, MISSING), before.get(key, MISSING)
    both = is_known(now.low, now.high, then.low, then.high)
    return Card(
        label=label_of(metric, k),
        meaning=metric_of(metric).meaning,
        value=number(now.value, kind, currency=currency if kind == "money" else ""),
        interval=interval(now.low, now.high, kind),
        change=change(now.value, then.value, kind),
        is_apart=(now.low > then.high or then.low > now.high) if both else None,
        baselines=baselines(values, metric, k) if metric in RANKINGS else (),
    )


def baselines(values: Values, metric: str, k: int | None) -> list[Baseline]:
    """The other orders by one metric, each with the paired difference of the run's order to it."""
    kind = metric_of(metric).kind
    rows = []
    for scorer in scorers_of(values):
        if scorer == "score":
            continue
        value = values.get((scorer, metric, k, "all"), MISSING).value
        paired = values.get((f"score - {scorer}", metric, k, "all"))
        if not is_known(value) and paired is None:
            continue
        mark, words = verdict(paired.low, paired.high) if paired else ("unknown", "no paired difference was computed")
        difference = number(paired.value, kind, signed=True) if paired else ""
        between = interval(paired.low, paired.high, kind, signed=True) if paired else ""
        rows.append(Baseline(scorer, number(value, kind), difference, between, mark, words))
    return rows


def in_short(cards: Sequence[Card], alerts: Sequence[str], not_computed: Sequence[str]) -> list[str]:
    """The report in a few sentences: who orders better, what drifted, what is missing."""
    sentences = []
    for one in cards:
        by_mark = {
            mark: [row.scorer for row in one.baselines if row.mark == mark] for mark in ("better", "worse", "open")
        }
        said = [
            f"{words} {_and(by_mark[mark])}"
            for mark, words in (
                ("better", "better than"),
                ("worse", "worse than"),
                ("open", "not clearly different from"),
            )
            if by_mark[mark]
        ]
        if said:
            sentences.append(f"By {one.label}, the order of this run is {'; '.join(said)}.")
    moved = [f"{one.label} {one.change}" for one in cards if one.is_apart]
    if moved:
        sentences.append(f"Moved more than chance since the day evaluated before: {_and(moved)}.")
    if alerts:
        found = _and([f"“{name}”" for name in alerts])
        sentences.append(f"⚠ {len(alerts)} drift {'alert' if len(alerts) == 1 else 'alerts'}: {found}.")
    if not_computed:
        few = len(not_computed) <= FEW
        sentences.append(
            f"Not computed: {_and(not_computed) if few else f'{len(not_computed)} things, listed at the end'}."
        )
    return sentences


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
