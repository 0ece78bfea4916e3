"""An evaluated day in a table to read: every scorer beside its baselines, with intervals."""

from __future__ import annotations

import pandas as pd
from pyspark.sql import functions as F

from llmrec_spark.daily_drift import Drift
from llmrec_spark.daily_evaluation import Evaluation
from llmrec_spark.evaluation_tables import EVALUATIONS
from llmrec_spark.evaluations import OUTCOME_RATIOS, OUTCOME_TOTALS, SHOWN
from llmrec_spark.judged_lists import BASELINES
from llmrec_spark.metrics import RANKING_METRICS, VARIETY_METRICS
from llmrec_spark.off_policy import LIFT, LOGGED, VALUES
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage

KNOWN = "user=known"  # ranking is told apart: whoever is new has no history to rank by


def say_evaluation(evaluated: Evaluation, rows: pd.DataFrame) -> None:
    """Prints outcomes, then each ranking metric by scorer with its 95 % interval, for all and for known users;
    then what left its bounds.
    """
    counts = evaluated.counts
    say(f"\n{evaluated.run_date}, run {evaluated.run.run_id}, model {evaluated.run.model_version}")
    say(f"log through {evaluated.through:%F %R} UTC; 95 % intervals over users")
    say(f"{counts['users_shown']:,} users were shown {counts['ads_judged']:,} ads, {counts['ads_unscored']:,} of them")
    say("without a score of the run: they rank last\n")
    every = rows[rows["slice"] == "all"]
    outcome = every[every["scorer"] == SHOWN].set_index("metric")
    for name in (*OUTCOME_TOTALS, *OUTCOME_RATIOS):
        say(f"{name:<14} {_with_interval(outcome.loc[name])}")
    for slice_name in ("all", KNOWN):
        ranked = rows[(rows["slice"] == slice_name) & rows["metric"].isin(RANKING_METRICS)]
        if (ranked["scorer"] == "score").any():
            _say_ranking(slice_name, ranked)
    _say_variety(every[every["metric"].isin(("coverage", "gini", *VARIETY_METRICS))])
    _say_off_policy(every)
    for what, why in evaluated.refused:
        say(f"no {what}: {why}")
    _say_drift(evaluated.drift)


def _say_drift(drift: Drift) -> None:
    if not drift.days_before:
        say("\nno day before is published and evaluated: nothing to compare with")
        return
    days = "1 day" if drift.days_before == 1 else f"{drift.days_before} days"
    say(f"\n{len(drift.alerts)} of {len(drift.checks)} figures left their bounds, beside {days} before")
    for one in drift.alerts:
        say(f"  ALERT {one.name} {one.value:.4g}, bound {one.bound:.4g}: {one.reason}")


def evaluation_rows(storage: Storage, evaluated: Evaluation) -> pd.DataFrame:
    """The rows of `evaluations` that the evaluation wrote."""
    rows = storage.read(EVALUATIONS).where(
        (F.col("run_date") == F.lit(str(evaluated.run_date)).cast("date"))
        & (F.col("run_id") == evaluated.run.run_id)
        & (F.col("evaluated_through") == F.lit(evaluated.through))
    )
    return pd.DataFrame(rows.drop("run_date", "run_id", "evaluated_through").toPandas())


def _say_ranking(slice_name: str, ranked: pd.DataFrame) -> None:
    by = ranked.set_index(["scorer", "metric"])
    scorers = sorted(ranked["scorer"].unique(), key=lambda name: (" - " in name, -by.loc[(name, "ndcg"), "value"]))
    k, clicked = int(ranked["k"].dropna().iloc[0]), int(by.loc[("score", "ndcg"), "n"])
    say(f"\n{slice_name}: {clicked:,} users clicked some of what they were shown, not all; metrics at {k}")
    say(f"{'by':<24}" + "".join(f"{name:>26}" for name in RANKING_METRICS[:3]) + f"{'group_auc':>26}")
    for scorer in scorers:
        cells = [_with_interval(by.loc[(scorer, name)]) for name in (*RANKING_METRICS[:3], "group_auc")]
        say(f"{scorer:<24}" + "".join(f"{cell:>26}" for cell in cells))


def _say_off_policy(every: pd.DataFrame) -> None:
    """Per list what it would have earned by each estimate, beside what was earned at the same positions."""
    of_lists = every[every["metric"].isin((LOGGED, *VALUES, LIFT))]
    for scorer, of_list in of_lists.groupby("scorer"):
        if of_list["value"].notna().sum() > 1:
            say(f"\n{scorer}: clicks per impression that it would have had, from propensities")
            for name, row in of_list.set_index("metric").iterrows():
                say(f"{name:<24} {_with_interval(row)}")


def _say_variety(of_lists: pd.DataFrame) -> None:
    by = of_lists.set_index(["metric", "scorer"])
    compared = [name for name in of_lists["scorer"].unique() if " - " not in name]
    scorers = sorted(compared, key=lambda name: (name != "score", name in BASELINES, name))
    say(f"\nvariety of the lists, clicked or not, at {int(of_lists['k'].iloc[0])}; popularity: the most clicked ads")
    say(f"{'':<24}" + "".join(f"{name:>26}" for name in scorers))
    for metric in dict.fromkeys(("coverage", "gini", *VARIETY_METRICS)):
        cells = [_with_interval(by.loc[(metric, one)]) if (metric, one) in by.index else "–" for one in scorers]
        say(f"{metric:<24}" + "".join(f"{cell:>26}" for cell in cells))


def _with_interval(row: pd.Series) -> str:
    if pd.isna(row["value"]):
        return "–"
    if pd.isna(row["low"]):
        return f"{row['value']:.4f}" + " " * len(" [0.0000, 0.0000]")
    if abs(row["value"]) >= 1000 or (float(row["value"]).is_integer() and abs(row["value"]) > 1):
        return f"{row['value']:,.0f} [{row['low']:,.0f}, {row['high']:,.0f}]"
    return f"{row['value']:.4f} [{row['low']:.4f}, {row['high']:.4f}]"
