"""What moved: the figures and score samples of a day against those of the days before, within the bounds of conf.

A figure is named family.what, and its family says how it is compared with the mean of the days before:

    rows                                       counts, by their ratio to it
    null, new, unknown, refused, lists, top    shares, by how far they rose above it
    calibration                                an error, by its ratio to it
    values                                     samples, by ks.what and psi.what, against the days' values together
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import NamedTuple

import numpy as np

from llmrec_spark.evaluation_config import DriftConfig

SAMPLES = "values"  # the family of samples
PSI_BINS = 10
NO_DAY = "no day before has it: nothing to compare with"


@dataclass(frozen=True)
class Figure:
    """A value, NULL where there was nothing to divide by; the rows behind it; the values sampled, ascending."""

    value: float | None
    n: int
    sample: np.ndarray = field(default_factory=lambda: np.empty(0))


class Check(NamedTuple):
    """A figure beside the mean of the days before and the bound it has, in its own unit, with the reason in words."""

    name: str
    value: float | None
    before: float | None
    bound: float | None
    is_alert: bool
    reason: str


def checks(today: Mapping[str, Figure], before: Sequence[Mapping[str, Figure]], config: DriftConfig) -> list[Check]:
    """One check per figure of the day, in order of name, two per sample; figures without a value have none.

    before: name -> figure of each day there is. A day or figure that is missing there is left out of the mean. No
    alert where there is no day before, or where so few rows stand behind a figure that chance alone could do it.
    """
    found: list[Check] = []
    for name, figure in today.items():
        earlier = [day[name] for day in before if name in day]
        if name.startswith(f"{SAMPLES}."):
            found += _distances(name, figure, [one for one in earlier if len(one.sample)], config)
        elif figure.value is not None:
            found.append(_compared(name, figure.value, figure.n, earlier, config))
    return [
        one._replace(value=_rounded(one.value), before=_rounded(one.before), bound=_rounded(one.bound))
        for one in sorted(found)
    ]


def ks_distance(one: np.ndarray, other: np.ndarray) -> float:
    """The two-sample distance of Kolmogorov and Smirnov: the largest gap between the two shares of values up to x.

    Tied values are one step. NaN where either is empty.
    """
    if not (len(one) and len(other)):
        return float("nan")
    places = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(values), places, side="right") / len(values) for values in (one, other)]
    return float(np.abs(shares[0] - shares[1]).max())


def population_stability(today: np.ndarray, before: np.ndarray) -> float:
    """The population stability index, sum of (p - q) ln(p / q) over the deciles of `before`; NaN where one is empty.

    p and q are the shares of today and before per bin, each count half a row more, so that none is 0. A bin ends with
    its decile; deciles that are tied end one bin.
    """
    if not (len(today) and len(before)):
        return float("nan")
    edges = np.unique(np.quantile(before, np.arange(1, PSI_BINS) / PSI_BINS, method="inverted_cdf"))
    counts = [np.bincount(np.searchsorted(edges, values), minlength=len(edges) + 1) + 0.5 for values in (today, before)]
    p, q = (count / count.sum() for count in counts)
    return float(((p - q) * np.log(p / q)).sum())


def _compared(name: str, value: float, n: int, earlier: Sequence[Figure], config: DriftConfig) -> Check:
    values = [one.value for one in earlier if one.value is not None]
    if not values:
        return Check(name, value, None, None, False, NO_DAY)
    before, days = fsum(values) / len(values), _days(len(values))
    family = name.partition(".")[0]
    if family == "rows":
        low, high = config.min_rows_ratio, config.max_rows_ratio
        bound = before * (low if value < before else high)
        moved = value < bound if value < before else value > bound
        is_few = max(value, before) < config.few_rows
        how = f"{_times(value, before)} the mean of {days}; {low:g} to {high:g} times are in bounds"
    elif family == "calibration":
        bound = before * config.max_calibration_ratio
        moved, is_few = value > bound, n < config.few_rows
        how = f"{_times(value, before)} the mean of {days}; up to {config.max_calibration_ratio:g} times are in bounds"
    else:
        rise = _rises(config)[family]
        bound = before + rise
        moved, is_few = value > bound, n < config.few_rows
        how = f"{value - before:+.3f} against the mean of {days}; a rise of up to {rise:g} is in bounds"
    few = f"; fewer than {config.few_rows:,} rows, so no alert" if is_few else ""
    return Check(name, value, before, bound, moved and not is_few, how + few)


def _distances(name: str, today: Figure, earlier: Sequence[Figure], config: DriftConfig) -> Iterator[Check]:
    what = name.partition(".")[2]
    if not earlier:
        yield Check(f"ks.{what}", None, None, config.max_ks, False, NO_DAY)
        return
    before = np.concatenate([one.sample for one in earlier])
    distance = ks_distance(today.sample, before)
    is_few = min(len(today.sample), len(before)) < config.min_sample
    how = (
        f"{len(today.sample):,} values beside {len(before):,} of {_days(len(earlier))}, mean {today.sample.mean():.4g}"
    )
    how += f" after {before.mean():.4g}"
    few = f"; fewer than {config.min_sample:,} on a side, so no alert" if is_few else ""
    yield Check(f"ks.{what}", distance, None, config.max_ks, distance > config.max_ks and not is_few, how + few)
    yield Check(f"psi.{what}", population_stability(today.sample, before), None, None, False, "never an alert")


def _rises(config: DriftConfig) -> dict[str, float]:
    """Family of shares -> how far one may rise."""
    return {
        "null": config.max_null_rise,
        "new": config.max_new_rise,
        "unknown": config.max_unknown_rise,
        "refused": config.max_refused_rise,
        "lists": config.max_lists_rise,
        "top": config.max_top_rise,
    }


def _times(value: float, before: float) -> str:
    return f"{value / before:.2f} times" if before else "none on"


def _days(count: int) -> str:
    return "1 day before" if count == 1 else f"{count} days before"


def _rounded(value: float | None) -> float | None:
    """9 significant digits: the order of a sum shows in none of them."""
    return None if value is None else float(f"{value:.9g}")
