"""The numbers of a report as a reader sees them: what a metric and a scorer are called, how a value is written."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, isfinite, log10

UNKNOWN = "–"  # an en dash
MINUS = "−"
NOISE = 1e-12  # what is smaller is what a sum of doubles leaves of 0


@dataclass(frozen=True)
class Metric:
    """What a metric is called; `kind` is share, count, money or number."""

    label: str
    kind: str
    meaning: str = ""


METRICS = {
    "impressions": Metric("Impressions", "count", "ads shown"),
    "clicks": Metric("Clicks", "count", "impressions that were clicked"),
    "conversions": Metric("Conversions", "count", "conversions after a click"),
    "ctr": Metric("Click rate (CTR)", "share", "clicks per impression"),
    "cvr": Metric("Conversion rate (CVR)", "share", "conversions per click"),
    "revenue": Metric("Revenue", "money", "value of the conversions"),
    "cost": Metric("Cost", "money", "what advertisers paid"),
    "roi": Metric("ROI", "number", "revenue against cost"),
    "ndcg": Metric("nDCG", "number", "clicked ads near the top of the list; 1 is perfect"),
    "group_auc": Metric("Group AUC", "number", "a clicked ad stands above an unclicked one; chance is 0.5"),
    "map": Metric("MAP", "number", "mean average precision"),
    "mrr": Metric("MRR", "number", "1 / place of the first clicked ad"),
    "recall": Metric("Recall", "share", "of the clicked ads, those in the top"),
    "precision": Metric("Precision", "share", "of the top, those clicked"),
    "hit_rate": Metric("Hit rate", "share", "lists with a click in the top"),
    "coverage": Metric("Coverage", "share", "of the live ads, those in the top of some list"),
    "gini": Metric("Gini", "number", "of the places that each live ad has; 0: all equally many, 1: one ad has all"),
    "diversity": Metric(
        "Diversity", "number", "1 - cosine of two ads of a list, by their texts; 0: copies, 1: by chance"
    ),
    "novelty": Metric(
        "Novelty", "number", "bits: 0 for an ad that everybody met before the day, +1 where half as many did"
    ),
    "serendipity": Metric(
        "Serendipity", "share", "of the ads of the list that were shown, those clicked and not popular"
    ),
    "repeat_rate": Metric("Repeat rate", "share", "of the list, ads that the user met before the day"),
    "exposure_share": Metric("Share of the places", "share", "in the top of the lists"),
    "off_policy_logged": Metric("As it was", "share", "what was earned at the same positions"),
    "off_policy_ips": Metric("IPS", "share", "each click weighted by 1 / propensity"),
    "off_policy_snips": Metric("SNIPS", "share", "IPS over its weights' mean"),
    "off_policy_clipped_ips": Metric("Clipped IPS", "share", "IPS with weights held: low, and steadier"),
    "off_policy_dm": Metric("Direct method", "share", "by click rates of the ads alone"),
    "off_policy_dr": Metric("Doubly robust", "share", "the direct method, its errors corrected by IPS"),
    "off_policy_lift": Metric("Gain", "share", "doubly robust less what was earned"),
    "off_policy_effective_sample": Metric("Effective sample", "count", "impressions that the weights leave"),
    "off_policy_largest_weight": Metric("Largest weight", "number", "of one impression"),
    "off_policy_top_share": Metric("Heaviest 1 %", "share", "of the weight on the heaviest 1 % of impressions"),
    "off_policy_support": Metric("Support", "share", "positions where the log could have shown the list's ad"),
}
OUTCOMES = ("ctr", "cvr", "revenue", "roi")
TOTALS = ("impressions", "clicks", "conversions", "cost")
RANKINGS = ("ndcg", "map", "mrr", "recall", "precision", "hit_rate", "group_auc")
LISTS = ("coverage", "gini", "diversity", "novelty", "serendipity", "repeat_rate")
OFF_POLICY = tuple(name for name in METRICS if name.startswith("off_policy_"))
SCORERS = {
    "score": "the order of this run",
    "match": "match alone",
    "rate": "click rate of the ad alone",
    "popularity": "popular ads first",
    "repeats": "what the user met before, first",
    "random": "chance",
}

FAMILIES = {  # of what is compared from day to day
    "rows": "Rows: {}",
    "null": "Without {}",
    "new": "New {}",
    "unknown": "Unknown {}",
    "refused": "Refused {}",
    "lists": "Lists: {}",
    "top": "Lists that begin with the same {}",
    "calibration": "Calibration error of {}",
    "ks": "Distance of {} (KS)",
    "psi": "Distance of {} (PSI)",
}


def metric_of(name: str) -> Metric:
    """The metric of this name; one not known here is called by its name."""
    return METRICS.get(name) or Metric(name, "number")


def label_of(name: str, k: int | None = None) -> str:
    """What a metric is called at a cut-off: `nDCG@10`."""
    return metric_of(name).label + (f"@{k}" if k is not None else "")


def check_label(name: str) -> str:
    """What a check of drift is called: `Rows: events, click` for rows.events.click."""
    family, _, what = name.partition(".")
    return FAMILIES.get(family, family + " {}").format(what.replace(".", ", ").replace("_", " "))


def is_known(*values: float | None) -> bool:
    """Whether none of the values is missing or infinite."""
    return all(value is not None and isfinite(value) for value in values)


def number(value: float | None, kind: str = "number", *, currency: str = "", signed: bool = False) -> str:
    """A value as text: 2.13 %, 12,345, 0.619; an en dash for one that is not known.

    As many decimals as its kind has, more where rounding would leave a 0 of a value that is not 0.
    """
    if value is None or not isfinite(value):
        return UNKNOWN
    value = 0.0 if abs(value) < NOISE else value
    if kind == "share":
        text = f"{_rounded(abs(value) * 100, 2)} %"
    elif kind == "count":
        text = f"{abs(value):,.0f}"
    elif kind == "money":
        text = f"{_rounded(abs(value), 2 if abs(value) < 1000 else 0)}{f' {currency}' if currency else ''}"
    else:
        text = _rounded(abs(value), 3)
    sign = MINUS if value < 0 else "+" if signed and value > 0 else ""
    return sign + text


def plain(value: float | None) -> str:
    """A value of unknown kind: four significant digits, all digits of a large one."""
    if value is None or not isfinite(value):
        return UNKNOWN
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", MINUS)


def interval(low: float | None, high: float | None, kind: str = "number", *, signed: bool = False) -> str:
    """`1.98 to 2.28 %`; nothing where there is no interval."""
    if not is_known(low, high):
        return ""
    first, last = number(low, kind, signed=signed), number(high, kind, signed=signed)
    return f"{first.removesuffix(' %')} to {last}"


def change(value: float | None, before: float | None, kind: str) -> str:
    """From one day to another, in words: `up 0.12 points`, `down 3.1 %`, `unchanged`; nothing if one is not known.

    Shares differ by percentage points, counts and money relatively, other numbers as they are.
    """
    if value is None or before is None or not is_known(value, before):
        return ""
    if value == before:
        return "unchanged"
    difference = abs(value - before)
    way = "up" if value > before else "down"
    if kind == "share":
        return f"{way} {_rounded(difference * 100, 2)} points"
    if kind in ("count", "money") and before != 0:
        return f"{way} {_rounded(difference / abs(before) * 100, 1)} %"
    return f"{way} {number(difference, kind)}"


def verdict(low: float | None, high: float | None) -> tuple[str, str]:
    """What the interval of a paired difference says: better, worse, open or unknown, and the sentence."""
    if low is None or high is None or not is_known(low, high):
        return "unknown", "no interval was computed"
    if low > NOISE:
        return "better", "better: the interval excludes 0"
    if high < -NOISE:
        return "worse", "worse: the interval excludes 0"
    return "open", "no clear difference: the interval includes 0"


def duration(seconds: float | None) -> str:
    """`0.4 s`, `12 s`, `3 min 20 s`, `1 h 05 min`."""
    if seconds is None or not isfinite(seconds):
        return UNKNOWN
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min"


def _rounded(value: float, decimals: int) -> str:
    """A value >= 0 with thousands' commas; a small one keeps two significant digits instead of vanishing."""
    if 0 < value < 0.5 * 10**-decimals:
        decimals = min(1 - floor(log10(value)), 12)
    return f"{value:,.{decimals}f}"
