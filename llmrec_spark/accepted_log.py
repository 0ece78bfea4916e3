"""The accepted log before a moment, with users and ads, as training and evaluation read it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ads import checked_ads
from llmrec_spark.candidates import checked_users
from llmrec_spark.config import Config
from llmrec_spark.daily_inputs import Inputs
from llmrec_spark.events import checked_events, with_consent
from llmrec_spark.input_tables import EVENTS
from llmrec_spark.quarantine import accepted


@dataclass(frozen=True)
class AcceptedLog:
    """The events of consenting users, users and ads: without what scoring refuses."""

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


def accepted_log(inputs: Inputs, config: Config, *, before: date) -> AcceptedLog:
    """The log before 00:00 UTC of a day."""
    has_consent, of = inputs.has_consent, config.events
    users = (
        once(accepted(checked_users(inputs.tables["users"], has_consent=has_consent)))
        if "users" in inputs.tables
        else None
    )
    types = {"types": list(of.weights), "searches": of.searches, "impressions": of.impressions}
    log = checked_events(inputs.tables["events"], as_of=before, **types)  # type: ignore[arg-type]
    events = with_consent(accepted(log.where(~F.col("is_later"))), users if has_consent else None)
    events = events.select(*[column.name for column in EVENTS.columns])
    return AcceptedLog(once(events), users, once(accepted(checked_ads(inputs.tables["ads"]))))
