"""A run's profile kept, and compared with those of the days before: what left its bounds goes to `alerts`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from llmrec_spark import score_profiles
from llmrec_spark.ads import live_ads
from llmrec_spark.config import Config, EventsConfig
from llmrec_spark.drift import SAMPLES, Check, Figure, checks
from llmrec_spark.evaluation_tables import ALERTS, EVALUATIONS, SCORE_PROFILES
from llmrec_spark.events import midnight
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RANKINGS, RECOMMENDATIONS

Profile = dict[str, Figure]
ROWS = {
    "log": "events_accepted",
    "users": "users",
    "live_ads": "ads_live",
    "recommendations": RANKINGS.name,
}  # name -> count
SHARES = {  # name -> counts of the run, of which count
    "lists.cold_start": (("users_cold_start",), "users"),
    "lists.short": (("short_lists_too_few_ads", "short_lists_by_rules"), "users"),
    "unknown.tokens": (("tokens_unknown",), "tokens_read"),
}


@dataclass(frozen=True)
class Drift:
    """What came of the comparison: every check, how many days there were to compare with, samples of scores by day."""

    checks: pd.DataFrame  # the columns of Check
    days_before: int
    samples: dict[str, dict[str, np.ndarray]]  # column -> day -> values, the day itself last

    @property
    def alerts(self) -> list[Check]:
        """The checks that left their bounds."""
        return [Check(*row) for row in self.checks[self.checks["is_alert"]].itertuples(index=False)]


def watch_day(
    storage: Storage,
    config: Config,
    run: Row,
    events: DataFrame,
    ads: DataFrame,
    of_day: Mapping[str, date | datetime | str],
) -> Drift:
    """Writes the run's rows of `score_profiles` and, against published days of the window, of `alerts`.

    run: its row of `runs`; events, ads: accepted; of_day: run_date, run_id and evaluated_through of the evaluation,
    whose rows of `evaluations` are written already. Only days that were evaluated have a profile.
    """
    of_run = {name: of_day[name] for name in ("run_date", "run_id")}
    named = {name: F.lit(value) for name, value in of_run.items()}
    profile = _profile(storage, config, run, events, ads)
    given = storage.spark.createDataFrame(_given(storage, run, of_day), "name string, value double, n bigint")
    with_sample = given.withColumn("sample", F.array().cast("array<double>"))
    storage.write_where(SCORE_PROFILES, profile.unionByName(with_sample).withColumns(named), of_run)
    by_day = window_profiles(storage, run, window_days=config.drift.window_days)
    today = by_day.pop(run.run_date)
    before = [by_day[day] for day in sorted(by_day)]
    found = checks(today, before, config.drift)
    alerts = [(one.name, one.value, one.before, one.bound, one.reason) for one in found if one.is_alert]
    rows = storage.spark.createDataFrame(
        alerts, "name string, value double, before double, bound double, reason string"
    )
    storage.write_where(ALERTS, rows.withColumns({name: F.lit(value) for name, value in of_day.items()}), of_day)
    samples: dict[str, dict[str, np.ndarray]] = {}
    for day, figures in sorted({**by_day, run.run_date: today}.items()):
        for name, figure in figures.items():
            if name.startswith(f"{SAMPLES}."):
                samples.setdefault(name.partition(".")[2], {})[str(day)] = figure.sample
    table = pd.DataFrame(found, columns=Check._fields).astype({"value": float, "before": float, "bound": float})
    return Drift(table, len(before), {name: days for name, days in samples.items() if str(run.run_date) in days})


def _profile(storage: Storage, config: Config, run: Row, events: DataFrame, ads: DataFrame) -> DataFrame:
    """What Spark has to count: of the log, the live ads, the lists and their scores."""
    day = run.run_date
    in_window = events.where(
        (F.col("event_ts") >= midnight(day - timedelta(days=config.drift.window_days)))
        & (F.col("event_ts") < midnight(day))
    )
    lists = storage.read_run(RANKINGS, run.run_id)
    parts = [
        score_profiles.log_figures(
            events, before=day, types=list(config.events.weights), filled=filled_columns(config.events)
        ),
        score_profiles.ad_figures(
            live_ads(ads, on=day), in_window.select("ad_id").distinct(), fields=config.text.fields
        ),
        score_profiles.list_figures(lists, in_window.select("user_id").distinct()),
        score_profiles.score_samples(lists, rows=config.drift.sample_rows),
    ]
    together = parts[0]
    for part in parts[1:]:
        together = together.unionByName(part)
    return together


def filled_columns(config: EventsConfig) -> dict[str, tuple[str, ...]]:
    """Optional column of events -> the types whose rows may have it; none where there are no such types."""
    shown = tuple(dict.fromkeys((*config.impressions, *config.clicks)))  # one type may be both
    columns = {
        "value": config.conversions,
        "cost": shown,
        "request_id": shown,
        "position": shown,
        "propensity": config.impressions,
        "run_id": shown,
        "query": config.searches,
    }
    return {name: types for name, types in columns.items() if types}


def _given(storage: Storage, run: Row, of_day: Mapping[str, date | datetime | str]) -> list[tuple[str, float, int]]:
    """name, value, n of what was counted or measured already: by the run, and by the evaluation."""
    counts = run.counts
    rows = [(f"rows.{name}", float(counts[key]), counts[key]) for name, key in ROWS.items() if key in counts]
    for name, (parts, whole) in SHARES.items():
        if counts.get(whole) and all(part in counts for part in parts):
            rows.append((name, sum(counts[part] for part in parts) / counts[whole], counts[whole]))
    if counts.get("events_read"):
        refused = sum(n for key, n in counts.items() if key.startswith("events_refused: "))
        rows.append(("refused.events", refused / counts["events_read"], counts["events_read"]))
    is_of_day = F.lit(True)
    for name, value in of_day.items():
        is_of_day &= F.col(name) == F.lit(value)
    errors = storage.read(EVALUATIONS).where(is_of_day & (F.col("metric") == "calibration_error"))
    by_scorer = {row.scorer: row for row in errors.where(F.col("value").isNotNull()).collect()}
    scorer = next((name for name in ("p_click", "score") if name in by_scorer), None)
    if scorer is not None:
        rows.append((f"calibration.{scorer}", by_scorer[scorer].value, by_scorer[scorer].n))
    return rows


def window_profiles(storage: Storage, run: Row, *, window_days: int) -> dict[date, Profile]:
    """day -> name -> figure: of the run, and of the published runs of the days before it that have a profile."""
    first = run.run_date - timedelta(days=window_days)
    is_before = (F.col("run_date") >= F.lit(first)) & (F.col("run_date") < F.lit(run.run_date))
    published = storage.read(RECOMMENDATIONS).where(is_before).select("run_date", "run_id").distinct()
    kept = storage.read(SCORE_PROFILES)
    of_window = kept.where(is_before).join(F.broadcast(published), on=["run_date", "run_id"], how="left_semi")
    of_run = kept.where((F.col("run_date") == F.lit(run.run_date)) & (F.col("run_id") == run.run_id))
    found: dict[date, Profile] = {}
    for row in pd.DataFrame(of_window.unionByName(of_run).toPandas()).itertuples():
        value = None if pd.isna(row.value) else float(row.value)
        figure = Figure(value, int(row.n), np.asarray(row.sample, dtype=float))
        found.setdefault(row.run_date, {})[row.name] = figure
    return found
