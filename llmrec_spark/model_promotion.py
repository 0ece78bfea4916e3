"""A challenger becomes champion, where it passes the gates; or the champion before it is champion again."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

from llmrec_spark.compared_runs import Comparison, newest_comparison
from llmrec_spark.config import Config, MlflowConfig
from llmrec_spark.errors import DataError, GateError, ModelError
from llmrec_spark.model_versions import CHALLENGER, CHAMPION, Contest
from llmrec_spark.promotion_gates import failures, gate_lines, gate_numbers, judged_gates
from llmrec_spark.registry import NAME, promote, roll_back
from llmrec_spark.run_notices import warn
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage


def promote_model(
    storage: Storage, config: Config, contest: Contest, *, day: date | None, force: bool, config_file: str
) -> None:
    """Prints every gate, and makes the challenger champion where none forbids it, or with `force` whatever they say.

    Without `force`, raises GateError where one does, DataError where no day judged both, ModelError where there is no
    champion to compare with; then nothing is changed.
    """
    comparison = _comparison(storage, contest, day=day, force=force, config_file=config_file)
    gates = () if comparison is None else judged_gates(comparison.figures, config.promotion)
    lines = gate_lines(gates) if gates else ["no gate was judged"]
    of, champion = contest.challenger, contest.champion
    if comparison is not None and champion is not None:
        beside = f"beside the champion, version {champion.number} (run {comparison.champion_run})"
        say(f"{of.name} version {of.number} (run {comparison.challenger_run}) {beside}")
        say(f"on the clicks of {comparison.run_date}, log through {comparison.through:%F %R} UTC\n")
    for line in lines:
        say(line)
    failed = failures(gates, require_all=config.promotion.require_all)
    if failed and not force:
        raise GateError(
            f"version {of.number} of {of.name} does not pass: {', '.join(failed)}. Version "
            f"{champion.number if champion else 'none'} stays {CHAMPION}; nothing was changed. Change promotion: in "
            "the configuration where a bound is wrong for this data, or give --force."
        )
    had = promote(
        contest, config.mlflow, _facts(contest, comparison, failed, force), gate_numbers(gates), "\n".join(lines)
    )
    said = f"\nversion {of.number} is {CHAMPION}"
    said += f", version {champion.number} was it before" if champion else ""
    say(f"{said}{f', and it is no longer {CHALLENGER}' if had else ''}.")
    _say_what_scores(config.mlflow, of.name)


def roll_back_model(config: Config) -> None:
    """The version that was champion before is champion again, whatever the gates would say."""
    old, new = roll_back(config.mlflow)
    say(f"version {new} is {CHAMPION} again, in place of version {old}.")
    _say_what_scores(config.mlflow, NAME)


def _comparison(
    storage: Storage, contest: Contest, *, day: date | None, force: bool, config_file: str
) -> Comparison | None:
    try:
        if contest.champion is None:
            raise ModelError(
                f"model {contest.challenger.name}: has no alias {CHAMPION}, so there is nothing to compare with. Give "
                "--force to make this version the first."
            )
        return newest_comparison(storage, contest, day=day, config_file=config_file)
    except (DataError, ModelError) as error:
        if not force:
            raise
        warn(f"forced without a comparison: {error}")
        return None


def _facts(contest: Contest, comparison: Comparison | None, failed: Sequence[str], force: bool) -> dict[str, Any]:
    champion = contest.champion
    facts = {
        "job": "promote_model",
        "model": contest.challenger.name,
        "model_version": contest.challenger.number,
        "replaced_version": "none" if champion is None else champion.number,
        "forced": force,
        "failed_gates": ", ".join(failed) or "none",
    }
    if comparison is None:
        return facts
    return facts | {
        "run_date": comparison.run_date,
        "champion_run": comparison.champion_run,
        "challenger_run": comparison.challenger_run,
        "evaluated_through": comparison.through.isoformat(),
    }


def _say_what_scores(config: MlflowConfig, name: str) -> None:
    if config.model != f"models:/{name}@{CHAMPION}":
        warn(f"mlflow.model is {config.model}: score_daily goes on with that one.")
        return
    say("The next day is scored with it; a published one with score_daily.py --force only.")
