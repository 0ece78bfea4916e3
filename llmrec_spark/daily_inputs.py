"""The company's tables as one day reads them: pinned, mapped, every row checked, counted, kept or quarantined."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

from pyspark import StorageLevel
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from llmrec_spark.ads import checked_ads, live_ads
from llmrec_spark.candidates import checked_candidates, checked_users
from llmrec_spark.column_maps import mapped_input
from llmrec_spark.config import Config
from llmrec_spark.errors import DataError
from llmrec_spark.events import checked_events
from llmrec_spark.input_tables import INPUTS
from llmrec_spark.quarantine import REFUSED, accepted, refusals
from llmrec_spark.runs import Run
from llmrec_spark.storage import Storage
from llmrec_spark.tables import QUARANTINE


@dataclass(frozen=True)
class Inputs:
    """Our view of the pinned tables; `where` and `versions` by input name."""

    tables: dict[str, DataFrame]
    where: dict[str, str]
    versions: dict[str, str]
    has_consent: bool  # the company's users have that column


@dataclass(frozen=True)
class CheckedInputs:
    """The accepted rows: events before the day, ads, users and candidates where the company gives them."""

    events: DataFrame
    ads: DataFrame
    users: DataFrame | None
    candidates: DataFrame | None
    has_consent: bool  # users say whether they consent
    checked: tuple[DataFrame, ...]  # kept on disk until the day ends


def read_inputs(storage: Storage, config: Config) -> Inputs:
    """Pins every input of the configuration and maps its columns. Raises DataError before any row is read."""
    tables, where, versions, has_consent = {}, {}, {}, False
    for name in INPUTS:
        of_input = getattr(config.inputs, name)
        if of_input is None:
            continue
        pinned = storage.pin(name, of_input)
        tables[name] = mapped_input(name, pinned.rows, pinned.where, of_input, config.text.separators)
        where[name], versions[name] = pinned.where, pinned.version
        if name == "users":
            has_consent = of_input.columns.get("consent", "consent").lower() in map(str.lower, pinned.rows.columns)
    return Inputs(tables, where, versions, has_consent)


def check_inputs(inputs: Inputs, config: Config, run: Run) -> CheckedInputs:
    """Checks and counts every row in the run, writes `quarantine`, and refuses input that is stale or broken."""
    kept, of = StorageLevel.DISK_ONLY, config.events
    events = checked_events(
        inputs.tables["events"],
        as_of=run.run_date,
        types=list(of.weights),
        searches=of.searches,
        impressions=of.impressions,
    ).persist(kept)
    checked = {"events": events, "ads": checked_ads(inputs.tables["ads"]).persist(kept)}
    ads = accepted(checked["ads"])
    if "users" in inputs.tables:
        checked["users"] = checked_users(inputs.tables["users"], has_consent=inputs.has_consent).persist(kept)
    if "candidates" in inputs.tables:
        checked["candidates"] = checked_candidates(
            inputs.tables["candidates"], ads, live_ads(ads, on=run.run_date), on=run.run_date
        ).persist(kept)
    for name, rows in checked.items():
        _count(name, rows, run)
    run.stage(QUARANTINE, lambda: _quarantine(checked, config))
    _refuse_stale(events, inputs.where["events"], config, run)
    for name in set(checked) - {"events"}:
        if not run.counts.get(f"{name}_accepted"):
            day = f" for {run.run_date}" if name == "candidates" else ""
            raise DataError(
                f"inputs.{name} ({inputs.where[name]}): {run.counts.get(f'{name}_read', 0)} rows read{day}, none "
                f"accepted. Fill it, or leave inputs.{name} out of the configuration where it is optional."
            )
    for name in checked:
        _refuse_broken(name, inputs.where[name], config, run)
    return CheckedInputs(
        events=accepted(events.where(~F.col("is_later"))).drop("is_later"),
        ads=ads,
        users=accepted(checked["users"]) if "users" in checked else None,
        candidates=accepted(checked["candidates"]) if "candidates" in checked else None,
        has_consent=inputs.has_consent,
        checked=tuple(checked.values()),
    )


def _count(name: str, rows: DataFrame, run: Run) -> None:
    """accepted + refused + later than the day = read, always."""
    kinds = tuple(f"{name}_{kind}" for kind in ("read", "accepted", "later", "refused"))
    for stale in [key for key in run.counts if key.startswith(kinds)]:  # of an earlier try of this run
        del run.counts[stale]
    later = F.col("is_later") if "is_later" in rows.columns else F.lit(False)
    for row in rows.groupBy(F.col(REFUSED).alias("reason"), later.alias("later")).count().collect():
        what = f"refused: {row.reason}" if row.reason else "later" if row.later else "accepted"
        run.counts[f"{name}_{what}"] = row["count"]
        run.counts[f"{name}_read"] = run.counts.get(f"{name}_read", 0) + row["count"]


def _quarantine(checked: dict[str, DataFrame], config: Config) -> DataFrame:
    parts = [
        refusals(
            rows,
            table=name,
            key=INPUTS[name].key,
            columns=[column.name for column in INPUTS[name].columns if column.name != "query"],
            per_reason=config.events.quarantine_per_reason,
        )
        for name, rows in checked.items()
    ]
    together = parts[0]
    for part in parts[1:]:
        together = together.unionByName(part)
    return together


def _refuse_stale(events: DataFrame, where: str, config: Config, run: Run) -> None:
    newest = accepted(events.where(~F.col("is_later"))).agg(F.unix_micros(F.max("event_ts")).alias("at")).first()
    midnight = datetime.combine(run.run_date, time(), UTC)
    if newest is None or newest["at"] is None:
        raise DataError(
            f"inputs.events ({where}): {run.counts.get('events_read', 0)} rows read, none accepted before "
            f"{midnight:%F %R} UTC. Give a --date the log covers, or look into the table quarantine."
        )
    at = datetime.fromtimestamp(newest["at"] / 1e6, UTC)
    if midnight - at > timedelta(hours=config.events.max_age_hours):
        raise DataError(
            f"inputs.events ({where}): the newest event before {midnight:%F %R} UTC is of {at:%F %R} UTC, older than "
            f"events.max_age_hours = {config.events.max_age_hours:g}. Load the missing events, or raise the bound."
        )


def _refuse_broken(name: str, where: str, config: Config, run: Run) -> None:
    refused = {key: n for key, n in run.counts.items() if key.startswith(f"{name}_refused: ")}
    if name == "candidates":  # ads that ended or have no record are the company's everyday life, and counted
        return
    read = run.counts.get(f"{name}_read", 0)
    if read and sum(refused.values()) / read > config.events.max_refused_share:
        why = "; ".join(f"{key.split(': ', 1)[1]} {n}" for key, n in sorted(refused.items(), key=lambda item: -item[1]))
        raise DataError(
            f"inputs.{name} ({where}): {sum(refused.values())} of {read} rows refused ({why}), more than "
            f"events.max_refused_share = {config.events.max_refused_share:g}. Look into the table quarantine."
        )
