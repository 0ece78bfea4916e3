"""A day as an evaluation would report it, made up; tests change a part of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from llmrec_spark.reports import ReportData

COLUMNS = ["scorer", "metric", "k", "slice", "value", "low", "high", "n"]
NDCG = {"score": 0.6187, "match": 0.4581, "rate": 0.5952, "popularity": 0.5714, "repeats": 0.4025, "random": 0.3119}
SLICES = {
    "category=Games": (0.0312, 0.6421),
    "category=Outdoor": (0.0241, 0.6305),
    "category=家居": (0.0209, 0.6122),
    "category=Books & <paper>": (0.0152, 0.5520),
    "segment=18-29": (0.0255, 0.6241),
    "segment=30-49": (0.0214, 0.6180),
    "segment=50+": (0.0171, 0.5943),
    "source=cold_start": (0.0140, 0.5610),
    "source=personal": (0.0228, 0.6242),
    "user=known": (0.0229, 0.6250),
    "user=new": (0.0139, 0.5588),
}
USER = "user-3f1c-77"  # the one of the examples


def around(value: float, width: float, n: int) -> tuple[float, float, float, int]:
    """value, low, high, n."""
    return value, value - width, value + width, n


def evaluations(shift: float = 0.0) -> pd.DataFrame:
    """All metrics of a day; `shift` moves them."""
    rows: list[tuple[Any, ...]] = [
        ("shown", "impressions", None, "all", 41_230 * (1 + shift), nan, nan, 41_230),
        ("shown", "clicks", None, "all", 878, 820, 936, 41_230),
        ("shown", "conversions", None, "all", 61, 46, 77, 878),
        ("shown", "ctr", None, "all", *around(0.0213 + 0.05 * shift, 0.0014, 41_230)),
        ("shown", "cvr", None, "all", *around(0.0695 + 0.1 * shift, 0.0171, 878)),
        ("shown", "revenue", None, "all", *around(1_829.4 * (1 + shift), 402.0, 61)),
        ("shown", "cost", None, "all", 1_107.25, nan, nan, 41_230),
        ("shown", "roi", None, "all", *around(1.652 + shift, 0.358, 61)),
        ("score", "coverage", 10, "all", 0.8421, nan, nan, 20_000),
        ("popularity", "coverage", 10, "all", 0.0391, nan, nan, 20_000),
        ("random", "coverage", 10, "all", 1.0, nan, nan, 20_000),
        ("score", "gini", 10, "all", *around(0.6128, 0.0081, 20_000)),
        ("score", "diversity", 10, "all", *around(0.5713, 0.0041, 2000)),
        ("score", "novelty", 10, "all", *around(7.215, 0.034, 2000)),
        ("score", "serendipity", 10, "all", nan, nan, nan, None),
        ("score", "repeat_rate", 10, "all", *around(0.1173, 0.0062, 2000)),
        ("popularity", "repeat_rate", 10, "all", *around(0.3333, 0.0071, 2000)),
        ("score", "exposure_share", 10, "category=Books & <paper>", *around(0.2718, 0.004, 20_000)),
        ("random", "exposure_share", 10, "category=Books & <paper>", 0.0577, nan, nan, 20_000),
    ]
    for name, value in (("logged", 0.0213), ("ips", 0.0244), ("snips", 0.0239), ("dm", 0.0221), ("dr", 0.0241)):
        rows.append(("score", f"off_policy_{name}", None, "all", *around(value, 0.0018, 1850)))
    rows.append(("score", "off_policy_effective_sample", None, "all", 412.6, nan, nan, 8240))
    for scorer, ndcg in NDCG.items():
        for metric, k, part in (("ndcg", 5, 0.93), ("ndcg", 10, 1.0), ("map", 10, 0.78), ("mrr", None, 0.87)):
            rows.append((scorer, metric, k, "all", *around(part * (ndcg + shift), 0.0164, 1412)))
        for metric, part in (("recall", 1.3), ("precision", 0.25), ("hit_rate", 1.5)):
            rows.append((scorer, metric, 10, "all", *around(part * (ndcg + shift), 0.0164, 1412)))
        rows.append((scorer, "group_auc", None, "all", *around(0.5 + 0.55 * (ndcg - 0.3119), 0.0121, 1412)))
        if scorer != "score":
            width = 0.0288 if scorer == "rate" else 0.0141
            rows.append((f"score - {scorer}", "ndcg", 10, "all", *around(NDCG["score"] - ndcg, 0.0091, 1412)))
            rows.append(
                (f"score - {scorer}", "group_auc", None, "all", *around(0.55 * (NDCG["score"] - ndcg), width, 1412))
            )
    for place in range(1, 11):
        rows.append(("shown", "ctr", None, f"position={place}", *around(0.043 / place**0.6, 0.0031, 4123)))
        rows.append(("shown", "ctr", None, f"rank={place}", *around(0.049 / place**0.7, 0.0035, 3100)))
    for n, (name, (ctr, ndcg)) in enumerate(SLICES.items()):
        rows.append(("shown", "ctr", None, name, *around(ctr, 0.0012 + 0.0004 * n, 20_000 - 1_500 * n)))
        rows.append(("score", "ndcg", 10, name, *around(ndcg, 0.012 + 0.003 * n, 900 - 70 * n)))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"k": "Int64", "n": "Int64"})


def reliability() -> pd.DataFrame:
    """Ten bins of a probability that is a little too sure of itself."""
    predicted = np.linspace(0.004, 0.07, 10)
    observed = 0.004 + 0.78 * predicted + 0.002 * np.sin(np.arange(10))
    width = 0.0015 + 0.004 * np.arange(10) / 9
    table = {"scorer": "p_click", "bin": range(10), "predicted": predicted, "observed": observed}
    return pd.DataFrame({**table, "low": observed - width, "high": observed + width, "n": 4123})


def drift() -> pd.DataFrame:
    """Two alerts among five checks."""
    rows = [
        ("events per user", 11.2, 11.4, 0.25, False, None),
        ("click rate", 0.0213, 0.0219, 0.2, False, None),
        ("score: distance to the days before", 0.31, 0.04, 0.2, True, "0.31 is above the bound of 0.2"),
        ("new ads", 7.0, 6.5, nan, False, None),
        ("share of cold_start lists", 0.19, 0.08, 0.1, True, "0.11 more than in the days before"),
    ]
    return pd.DataFrame(rows, columns=["name", "value", "before", "bound", "is_alert", "reason"])


def scores() -> dict[str, dict[str, np.ndarray]]:
    """Samples of three columns on four days."""
    drawn = np.random.default_rng(7)
    days = ["2026-02-26", "2026-02-27", "2026-02-28", "2026-03-01"]
    shapes = {"score": (-3.4, 0.6, 0.25), "match": (0.31, 0.07, 0.0), "lift": (0.0, 1.0, 0.0)}
    return {
        column: {day: drawn.normal(mean + (move if day == days[-1] else 0), spread, 4000) for day in days}
        for column, (mean, spread, move) in shapes.items()
    }


def examples() -> pd.DataFrame:
    """One good and one bad list of one user; a title and a reason that are not what they seem."""
    because = "because you clicked “Trail shoes, light” (+0.98)"
    rows = [
        ("best", USER, 1, "阳台种菜箱 新手七天见绿", True, -0.44, "because you searched for “种植箱 推荐” (+0.71)"),
        ("best", USER, 2, "Running vest with two bottles", False, -0.61, because),
        ("worst", USER, 2, "<script>alert(1)</script>", True, -1.93, "<img src=x onerror=alert(2)>"),
        ("worst", USER, 1, "Garden hose, 20 m & reel", False, -1.27, None),
    ]
    return pd.DataFrame(rows, columns=["kind", "user_id", "rank", "title", "clicked", "score", "reasons"])


def reported_day(**changes: Any) -> ReportData:
    """The day with these parts of it changed."""
    before = [(date(2026, 2, 27), -0.02), (date(2026, 2, 28), -0.01)]
    day = ReportData(
        run_date=date(2026, 3, 1),
        run_id="042943f36352ce99",
        model_version="3",
        model_digest="9b1c0f6d" * 8,
        input_versions={"events": "5f0c2a7e-2f4d-4f1b-9d1e-d4f0b6a1c001@17", "ads": "a91f3c52-77aa-4c06-8a5b-0c1@4"},
        evaluated_through=datetime(2026, 3, 2, 23, 59, tzinfo=UTC),
        evaluations=evaluations(),
        previous=pd.concat([evaluations(shift).assign(run_date=day) for day, shift in before]),
        reliability=reliability(),
        scores=scores(),
        drift=drift(),
        seconds={
            "sequences": 10.2,
            "ad_texts": 3.1,
            "text_vectors": 41.7,
            "backgrounds": 12.5,
            "matches": 64.0,
            "rankings": 9.4,
        },
        counts={"events read": 184_201, "users": 2_000, "rows published": 20_000},
        not_computed=[
            ("calibration of p_conversion", "p_conversion is NULL: no calibrated model scored."),
            ("serendipity", "No list has an ad that was both unexpected and clicked."),
        ],
        examples=None,
        currency="EUR",
    )
    return replace(day, **changes)


def nothing_known() -> ReportData:
    """A day of which nothing could be evaluated: every table empty."""
    empty = pd.DataFrame(columns=COLUMNS)
    return reported_day(
        evaluations=empty,
        previous=empty.assign(run_date=[]),
        reliability=reliability()[:0],
        scores={},
        drift=drift()[:0],
        seconds={},
        counts={},
        not_computed=[("calibration of p_click", "p_click is NULL: no calibrated model scored.")],
        examples=examples()[:0],
    )
