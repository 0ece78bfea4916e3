"""The evaluation of a day's given lists, from tables to a printed table."""

from __future__ import annotations

from datetime import date, timedelta

from pyspark.sql import functions as F

from llmrec_spark.candidates import checked_users
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import read_inputs
from llmrec_spark.daily_publishing import published_run, refuse_expired
from llmrec_spark.errors import DataError
from llmrec_spark.evaluations import SCORERS, judged_lists, list_metrics, mean_metrics
from llmrec_spark.events import checked_events, midnight, with_consent
from llmrec_spark.impressions import clicked_impressions
from llmrec_spark.quarantine import accepted
from llmrec_spark.runs import say
from llmrec_spark.storage import Storage
from llmrec_spark.tables import MATCHES


def judge_day(storage: Storage, config: Config, day: date, *, k: int) -> None:
    """Prints nDCG@k and group AUC of the lists shown on a day: random, rate, match and score of its published run."""
    run = published_run(storage, day)
    if run is None:
        raise DataError(f"recommendations: {day} is not published. Run jobs/score_daily.py --date {day} first.")
    refuse_expired(storage, run)
    inputs = read_inputs(storage, config)
    log = inputs.tables["events"]
    consenting = accepted(checked_users(inputs.tables["users"], has_consent=True)) if inputs.has_consent else None
    types, searches = list(config.events.weights), config.events.searches
    checked = checked_events(
        log, as_of=day + timedelta(days=2), types=types, searches=searches
    )  # a day of clicks after
    known = with_consent(accepted(checked.where("NOT is_later")), consenting)
    shown = clicked_impressions(known, impressions=config.events.impressions, clicks=config.events.clicks)
    before = known.where(F.col("event_ts") < midnight(day))
    judged = judged_lists(shown, storage.read_run(MATCHES, run.run_id), before, on=day)
    metrics = mean_metrics(list_metrics(judged.where("has_history"), k=k))
    found = {row.scorer: row for row in metrics.collect()}
    if not found:
        raise DataError(f"inputs.events: no list shown on {day} has clicked and unclicked ads. Give another --date.")
    first = next(iter(found.values()))
    say(f"\n{day}, run {run.run_id}, model {run.model_version}: {first.lists:,} lists with clicked and unclicked ads,")
    say(f"of users met before the day; {first.unscored:,} shown ads without a score rank last\n")
    say(f"{'by':<8} {f'nDCG@{k}':>8} {'group AUC':>10}")
    for scorer in SCORERS:
        say(f"{scorer:<8} {found[scorer].ndcg:>8.4f} {found[scorer].auc:>10.4f}")
