"""What an evaluation reads: the accepted log up to where every window of the day closes, with users and ads."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ads import checked_ads
from llmrec_spark.candidates import checked_users
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.errors import DataError
from llmrec_spark.events import checked_events, with_consent
from llmrec_spark.quarantine import accepted


@dataclass(frozen=True)
class EvaluatedLog:
    """The accepted log of consenting users, users and ads."""

    events: DataFrame
    users: DataFrame | None
    ads: DataFrame


def once(rows: DataFrame) -> DataFrame:
    """Rows that are read more than once: computed by their first reader, kept on the disks of the executors.

    Their plan ends here. A day has a dozen such tables, each made of others, and to plan every query down to the log
    again took longer than to run it. An executor that is lost takes its part with it, and the evaluation has to be run
    again; Spark drops what nothing refers to any more.
    """
    return rows.localCheckpoint(eager=False, storageLevel=StorageLevel.DISK_ONLY)


def evaluated_log(inputs: Inputs, config: Config, day: date) -> EvaluatedLog:
    """The log up to where every window of the day closes, checked as scoring checks it."""
    of = config.evaluation
    end = day + timedelta(days=1 + -(-(of.click_hours / 24 + of.conversion_days) // 1))
    users = (
        once(accepted(checked_users(inputs.tables["users"], has_consent=inputs.has_consent)))
        if "users" in inputs.tables
        else None
    )
    log = checked_events(
        inputs.tables["events"], as_of=end, types=list(config.events.weights), searches=config.events.searches
    )
    events = with_consent(accepted(log.where(~F.col("is_later"))), users if inputs.has_consent else None)
    return EvaluatedLog(once(events), users, once(accepted(checked_ads(inputs.tables["ads"]))))


def reached(events: DataFrame, inputs: Inputs, day: date) -> datetime:
    """The time of the newest event that the evaluation could use. Raises DataError where the day has not begun."""
    [newest] = events.agg(F.unix_micros(F.max("event_ts")).alias("at")).collect()
    start = datetime.combine(day, time(), UTC)
    if newest.at is None or newest.at / 1e6 < start.timestamp():
        raise DataError(
            f"inputs.events ({inputs.where['events']}): no accepted event of {day} or later. Load what happened that "
            "day before it is evaluated."
        )
    return datetime.fromtimestamp(newest.at // 1_000_000, UTC) + timedelta(microseconds=newest.at % 1_000_000)
