"""What `evaluations` and `runs` say of two versions of a model, from the newest day that judged both on its clicks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime

from pyspark.sql import Row
from pyspark.sql import functions as F

from llmrec_spark.errors import DataError
from llmrec_spark.evaluation_tables import EVALUATIONS
from llmrec_spark.model_versions import Contest, ModelVersion
from llmrec_spark.promotion_gates import Compared, Difference, Group, RunFigures
from llmrec_spark.reliability import p_click_of
from llmrec_spark.session import SUBMIT
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RECOMMENDATIONS, RUNS, TEXT_VECTORS

NOT_COUNTED = (TEXT_VECTORS.name, RECOMMENDATIONS.name)  # seconds of what is done once ever, and of publishing
WITH_LISTS = ("published", "shadow", "expired")
METRICS = ("ndcg", "coverage", "calibration_error")

Rows = Mapping[tuple[str, str, str], Row]  # by scorer, metric and slice


@dataclass(frozen=True)
class Comparison:
    """Two runs of a day, and what the evaluation that judged both says of them."""

    run_date: date
    champion_run: str
    challenger_run: str
    through: datetime  # UTC, how far the log reached
    figures: Compared


def newest_comparison(storage: Storage, contest: Contest, *, day: date | None, config_file: str) -> Comparison:
    """The newest evaluation, of one day or of any, of a run of the champion beside one of the challenger.

    Both runs have the same configuration, or the difference would not be one of models. Raises DataError that names
    the commands to run, with `config_file`, where there is none.
    """
    champions, challengers = (_runs(storage, version, day) for version in (contest.champion, contest.challenger))
    pairs = {
        (one.run_id, other.run_id): (one, other)
        for one in champions
        for other in challengers
        if (one.run_date, one.config_digest) == (other.run_date, other.config_digest)
    }
    judged = [row for row in _judged(storage, pairs) if (row.run_id, row.scorer) in pairs]  # each of one day
    if not judged:
        published = [run for run in champions if run.status == "published"]
        if not published:
            raise DataError(_not_published(storage, contest, day, config_file))
        raise DataError(_not_judged(storage, contest, published[-1], challengers, config_file))
    newest = max(
        judged, key=lambda row: (row.run_date, row.evaluated_through, pairs[row.run_id, row.scorer][1].updated_at)
    )
    champion, challenger = pairs[newest.run_id, newest.scorer]
    through = newest.evaluated_through.astimezone(UTC)  # collected in the zone of this process
    of_day = storage.read(EVALUATIONS).where(
        (F.col("run_date") == F.lit(str(newest.run_date)).cast("date"))
        & (F.col("run_id") == newest.run_id)
        & (F.col("evaluated_through") == F.lit(through))
        & F.col("metric").isin(*METRICS)
    )
    rows = {(row.scorer, row.metric, row["slice"]): row for row in of_day.collect()}
    figures = compared(rows, champion, challenger)
    return Comparison(newest.run_date, champion.run_id, challenger.run_id, through, figures)


def compared(rows: Rows, champion: Row, challenger: Row) -> Compared:
    """What the gates read, of rows of `evaluations` by scorer, metric and slice, and of two rows of `runs`."""
    beside = challenger.run_id
    slices = sorted({key[2] for key in rows if key[:2] == ("score", "ndcg")})
    groups = {
        name: Group(_value(rows, "score", "ndcg", name), _value(rows, beside, "ndcg", name), difference)
        for name in slices
        if name != "all" and (difference := _difference(rows, beside, name)) is not None
    }
    return Compared(
        _figures(rows, champion, "score", "p_click"),
        _figures(rows, challenger, beside, p_click_of(beside)),
        _difference(rows, beside, "all"),
        groups,
    )


def _figures(rows: Rows, run: Row, scorer: str, p_click: str) -> RunFigures:
    return RunFigures(
        ndcg=_value(rows, scorer, "ndcg", "all"),
        calibration_error=_value(rows, p_click, "calibration_error", "all"),
        coverage=_value(rows, scorer, "coverage", "all"),
        seconds_per_user=seconds_per_user(run.seconds, run.counts),
    )


def seconds_per_user(seconds: Mapping[str, float], counts: Mapping[str, int]) -> float | None:
    """Of a run's stages without NOT_COUNTED; None where none was measured, or there were no users.

    A text is encoded once ever, so the first run of a new encoder would pay for all that the champion's found done;
    and a shadow run does not publish.
    """
    counted = [value for name, value in seconds.items() if name not in NOT_COUNTED]
    users = counts.get("users", 0)
    return sum(counted) / users if counted and users else None


def _value(rows: Rows, scorer: str, metric: str, slice_name: str) -> float | None:
    row = rows.get((scorer, metric, slice_name))
    return None if row is None else row.value


def _difference(rows: Rows, beside: str, slice_name: str) -> Difference | None:
    """challenger - champion: `evaluations` has champion - challenger, whose ends change places with the sign."""
    row = rows.get((f"score - {beside}", "ndcg", slice_name))
    if row is None:
        return None
    value, low, high = (None if one is None else 0.0 - one for one in (row.value, row.high, row.low))
    return Difference(value, low, high, row.n)


def _runs(storage: Storage, version: ModelVersion | None, day: date | None) -> list[Row]:
    """The runs of a version that have lists, the oldest first."""
    if version is None:
        return []
    runs = storage.read(RUNS).where((F.col("model_version") == version.number) & F.col("status").isin(*WITH_LISTS))
    if version.digest is not None:  # another registry has a version of that number too
        runs = runs.where(F.col("model_digest") == version.digest)
    if day is not None:
        runs = runs.where(F.col("run_date") == F.lit(str(day)).cast("date"))
    return runs.orderBy("run_date", "updated_at").collect()


def _judged(storage: Storage, pairs: Mapping[tuple[str, str], object]) -> list[Row]:
    """run_id, scorer, run_date, evaluated_through: which runs evaluations judged beside which others."""
    if not pairs:
        return []
    champions, challengers = zip(*pairs, strict=True)
    found = storage.read(EVALUATIONS).where(F.col("run_id").isin(*champions) & F.col("scorer").isin(*challengers))
    return found.select("run_id", "scorer", "run_date", "evaluated_through").distinct().collect()


def _not_published(storage: Storage, contest: Contest, day: date | None, config_file: str) -> str:
    """That the champion has no day to be compared on, and what to do."""
    champion = contest.champion
    others = [run.run_date for run in _runs(storage, champion, None) if run.status == "published"]
    number = "none" if champion is None else champion.number
    if others:
        return f"{day}: was not published by the champion, version {number}; give --date {others[-1]} or none."
    wanted = f"--config {config_file} --date {day or 'DAY'}"
    return (
        f"{day or 'every day'}: was not published by the champion, version {number}. Publish a day, show its lists, "
        f"and once its clicks are in the log:\n{_commands(contest, wanted, 'RUN')}\nwhere RUN is the shadow run."
    )


def _not_judged(storage: Storage, contest: Contest, champion: Row, challengers: list[Row], config_file: str) -> str:
    """That the newest day of the champion did not judge the challenger, and the commands that do."""
    wanted = f"--config {config_file} --date {champion.run_date}"
    of_day = [run.run_id for run in challengers if run.run_date == champion.run_date]
    alike = [run.run_id for run in challengers if run.run_id in of_day and run.config_digest == champion.config_digest]
    number = contest.challenger.number
    if alike:
        evaluated = storage.read(EVALUATIONS).where(F.col("run_id") == champion.run_id)
        state = "is not evaluated" if evaluated.isEmpty() else "was evaluated without the challenger"
        return (
            f"{champion.run_date}: {state}; version {number} has run {alike[-1]} of it. Once its clicks are in the "
            f"log:\n{_commands(contest, wanted, alike[-1], has_run=True)}"
        )
    other = f"; {of_day[-1]} had another configuration than the champion's {champion.run_id}" if of_day else ""
    return (
        f"{champion.run_date}: the challenger, version {number}, has not scored it{other}. Once its clicks are in the "
        f"log:\n{_commands(contest, wanted, 'RUN')}\nwhere RUN is the shadow run."
    )


def _commands(contest: Contest, wanted: str, run: str, *, has_run: bool = False) -> str:
    scored = f"score_daily.py {wanted} --model {contest.challenger.uri} --shadow"
    commands = [f"evaluate_daily.py {wanted} --against {run}"]
    return "\n".join(f"  {SUBMIT} jobs/{command}" for command in ([] if has_run else [scored]) + commands)
