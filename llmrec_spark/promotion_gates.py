"""Whether a challenger may become champion: each gate judged on figures of both, on one day and the same clicks.

A gate says `passed` or `failed`; `not judged` where a figure is missing that should be there, which fails unless conf
says otherwise; `does not apply` where the champion has nothing that a challenger could be worse at.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from llmrec_spark.promotion_config import PromotionConfig

Verdict = Literal["passed", "failed", "not judged", "does not apply"]
PASSED: Verdict = "passed"
FAILED: Verdict = "failed"
NOT_JUDGED: Verdict = "not judged"
NOT_APPLICABLE: Verdict = "does not apply"
DIGITS = 9  # that evaluations keep: a difference of exactly the bound passes


@dataclass(frozen=True)
class Difference:
    """challenger - champion of one metric with its paired 95 % interval; `users` have both."""

    value: float | None
    low: float | None
    high: float | None
    users: int


@dataclass(frozen=True)
class Group:
    """nDCG of the users of one group, in both orders."""

    champion: float | None
    challenger: float | None
    difference: Difference


@dataclass(frozen=True)
class RunFigures:
    """Of the run of one version; None where there is no such figure."""

    ndcg: float | None = None
    calibration_error: float | None = None  # of p_click; None where the model gives no probabilities
    coverage: float | None = None
    seconds_per_user: float | None = None


@dataclass(frozen=True)
class Compared:
    """What the gates read: the figures of both runs of a day, and of their differences."""

    champion: RunFigures
    challenger: RunFigures
    ndcg: Difference | None  # None: nobody clicked some and not all of what was shown
    groups: Mapping[str, Group] = field(default_factory=dict)  # `segment=new` -> ...


@dataclass(frozen=True)
class Gate:
    """One gate as it is printed and logged. `difference` is challenger - champion; of seconds, the ratio."""

    name: str
    champion: float | None
    challenger: float | None
    difference: float | None
    interval: tuple[float, float] | None
    bound: str  # what the difference has to be
    verdict: Verdict
    why: str = ""


def judged_gates(compared: Compared, bounds: PromotionConfig) -> tuple[Gate, ...]:
    """Every gate, in the order in which it is printed."""
    return (
        ndcg_gate(compared, bounds),
        calibration_gate(compared, bounds),
        coverage_gate(compared, bounds),
        group_gate(compared, bounds),
        speed_gate(compared, bounds),
    )


def failures(gates: Sequence[Gate], *, require_all: bool) -> list[str]:
    """The names of the gates that forbid the promotion."""
    forbidding = (FAILED, NOT_JUDGED) if require_all else (FAILED,)
    return [gate.name for gate in gates if gate.verdict in forbidding]


def ndcg_gate(compared: Compared, bounds: PromotionConfig) -> Gate:
    """Passes where even the lower end of the difference is no larger a loss than allowed (non-inferiority)."""
    of, bound = compared.ndcg, f"low >= {-bounds.max_ndcg_loss:g}"
    values = ("ndcg", compared.champion.ndcg, compared.challenger.ndcg)
    if of is None or of.value is None or of.low is None or of.high is None:
        return Gate(*values, None, None, bound, NOT_JUDGED, "nobody clicked some and not all of what was shown")
    told = (*values, of.value, (of.low, of.high), bound)
    if of.users < bounds.min_users:
        return Gate(*told, NOT_JUDGED, f"{_users(of)} clicked, fewer than promotion.min_users = {bounds.min_users:,}")
    return Gate(*told, _verdict(of.low >= -bounds.max_ndcg_loss), _users(of))


def calibration_gate(compared: Compared, bounds: PromotionConfig) -> Gate:
    """Passes where the calibration error of p_click did not rise by more than allowed."""
    champion, challenger = compared.champion.calibration_error, compared.challenger.calibration_error
    values, bound = ("calibration", champion, challenger), f"<= {bounds.max_calibration_rise:g}"
    if champion is None:
        return Gate(*values, None, None, bound, NOT_APPLICABLE, "the champion gives no p_click")
    if challenger is None:
        return Gate(*values, None, None, bound, FAILED, "the champion gives p_click, the challenger none")
    rise = round(challenger - champion, DIGITS)
    return Gate(*values, rise, None, bound, _verdict(rise <= bounds.max_calibration_rise))


def coverage_gate(compared: Compared, bounds: PromotionConfig) -> Gate:
    """Passes where the share of the live ads that is in somebody's list did not fall by more than allowed."""
    champion, challenger = compared.champion.coverage, compared.challenger.coverage
    values, bound = ("coverage", champion, challenger), f">= {-bounds.max_coverage_loss:g}"
    if champion is None or challenger is None:
        return Gate(*values, None, None, bound, NOT_JUDGED, "the evaluation has no coverage of both")
    rise = round(challenger - champion, DIGITS)
    return Gate(*values, rise, None, bound, _verdict(rise >= -bounds.max_coverage_loss))


def group_gate(compared: Compared, bounds: PromotionConfig) -> Gate:
    """Passes where no group of users loses more nDCG than allowed; judged by its estimate, told with its interval.

    The lower ends of many small groups would nearly always be below some bound. Of equal losses the first name counts.
    """
    bound = f">= {-bounds.max_group_loss:g}"
    judged = {
        name: (group.difference.value, group)
        for name, group in compared.groups.items()
        if group.difference.value is not None and group.difference.users >= bounds.min_users
    }
    if not judged:
        why = f"no group has {bounds.min_users:,} users who clicked (promotion.min_users)"
        return Gate("groups", None, None, None, None, bound, NOT_JUDGED, why)
    name, (difference, group) = min(sorted(judged.items()), key=lambda one: one[1][0])
    of = group.difference
    interval = None if of.low is None or of.high is None else (of.low, of.high)
    verdict = _verdict(difference >= -bounds.max_group_loss)
    why = f"most lost of {len(judged)} groups: {name}, {_users(of)}"
    return Gate("groups", group.champion, group.challenger, difference, interval, bound, verdict, why)


def speed_gate(compared: Compared, bounds: PromotionConfig) -> Gate:
    """Passes where scoring a user took at most so many times as long."""
    champion, challenger = compared.champion.seconds_per_user, compared.challenger.seconds_per_user
    values, bound = ("seconds/user", champion, challenger), f"ratio <= {bounds.max_seconds_ratio:g}"
    if champion is None or challenger is None or champion <= 0:
        return Gate(*values, None, None, bound, NOT_JUDGED, "`runs` has no seconds and users of both")
    ratio = round(challenger / champion, DIGITS)
    return Gate(*values, ratio, None, bound, _verdict(ratio <= bounds.max_seconds_ratio))


def gate_lines(gates: Sequence[Gate]) -> list[str]:
    """The gates as a table to print: a heading, then a line each."""
    heading = ("gate", "champion", "challenger", "difference [95 % interval]", "bound", "verdict")
    rows = [heading, *(_cells(gate) for gate in gates)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heading))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def gate_numbers(gates: Sequence[Gate]) -> dict[str, float]:
    """gate.what -> number, of what is known: champion, challenger, difference, low, high; 1 where it passed, else 0."""
    found: dict[str, float | None] = {}
    for gate in gates:
        name, (low, high) = gate.name.replace("/", "_per_"), gate.interval or (None, None)
        of = {"champion": gate.champion, "challenger": gate.challenger, "difference": gate.difference}
        found |= {f"{name}.{what}": value for what, value in {**of, "low": low, "high": high}.items()}
        found[f"{name}.passed"] = float(gate.verdict == PASSED)
    return {name: value for name, value in found.items() if value is not None}


def _cells(gate: Gate) -> tuple[str, ...]:
    between = "" if gate.interval is None else " [{:+.4f}, {:+.4f}]".format(*gate.interval)
    is_ratio = gate.bound.startswith("ratio")
    difference = (
        "–" if gate.difference is None else f"x {gate.difference:.2f}" if is_ratio else f"{gate.difference:+.4f}"
    )
    verdict = f"{gate.verdict}: {gate.why}" if gate.why else gate.verdict
    return (gate.name, _number(gate.champion), _number(gate.challenger), difference + between, gate.bound, verdict)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}" if value >= 0.01 or value == 0 else f"{value:.3g}"


def _users(of: Difference) -> str:
    return f"{of.users:,} users"


def _verdict(holds: bool) -> Verdict:
    return PASSED if holds else FAILED
