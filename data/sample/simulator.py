"""A month of what 2,000 simulated people did with the bundled ads, as a company's log would hold it.

`simulate_log` is what the loader asks for. `answer` lets the same people meet lists that somebody published;
`true_probabilities` is for tests and benchmarks alone.
"""

from dataclasses import dataclass
from datetime import date, timedelta

import numpy as np
import pandas as pd
from simulated_days import answer, simulate
from simulated_world import FIRST_DAY, LAST_DAY, World, load_ads, make_world, true_probabilities

__all__ = [
    "Log",
    "World",
    "answer",
    "answer_log",
    "load_ads",
    "make_world",
    "simulate",
    "simulate_log",
    "true_probabilities",
]

SEED = 20260301
TODAY = pd.Timestamp("2026-03-01T00:00:00Z")
READ_AT = pd.Timestamp("2026-03-01T00:45:00Z")  # when the log was read: the day had begun
BROKEN = {  # rows of each kind that cannot be right
    "null user_id": 12,
    "null event_id": 9,
    "unknown event_type": 15,
    "before 2000": 8,
    "after 2100": 6,
    "search without query": 10,
}
DOUBLED = 0.003  # share of events that were sent twice
LATE = 0.02  # share of the last week's events that arrive after the rest


@dataclass(frozen=True, eq=False)
class Log:
    """What the loader writes: events in two parts, as they arrived, and users."""

    events: pd.DataFrame
    late_events: pd.DataFrame
    users: pd.DataFrame


def simulate_log(ads: pd.DataFrame, *, seed: int = SEED, users: int | None = None) -> Log:
    """The log of these ads for 30 days and the first hours of the next, dirt included.

    users  only the first so many by id, with their events and those that name nobody
    """
    world = make_world(ads, seed)
    events = simulate(world, FIRST_DAY, LAST_DAY + timedelta(days=1))
    people = world.people.sort_values("user_id").head(users) if users is not None else world.people
    parts = with_dirt(events[events["event_ts"] < READ_AT], seed)
    first, late = (one[one["user_id"].isna() | one["user_id"].isin(people["user_id"])] for one in parts)
    return Log(first, late, people)


def answer_log(world: World, day: date, lists: pd.DataFrame) -> pd.DataFrame:
    """What a log gets on `day` when `lists` are shown from when the log was read on; before, it has what it has."""
    return answer(world, day, lists, since=READ_AT)


def with_dirt(events: pd.DataFrame, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The events with BROKEN rows and doubled ones, parted into those that came in time and those that came late."""
    rng = np.random.default_rng(np.random.SeedSequence([seed, 1]))
    last_week = (events["event_ts"] >= TODAY - pd.Timedelta(days=7)) & (events["event_ts"] < TODAY)
    late = last_week & (rng.random(len(events)) < LATE)
    again = events.iloc[rng.choice(len(events), round(DOUBLED * len(events)), replace=False)]
    again_late = rng.random(len(again)) < 0.25
    first = pd.concat([events[~late], again[~again_late], broken_rows(events, rng)])
    second = pd.concat([events[late], again[again_late]])
    return in_order(first), in_order(second)


def broken_rows(events: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Copies of clicks of the 30 days under new ids, each broken in one of the ways of BROKEN."""
    kind = np.repeat(list(BROKEN), list(BROKEN.values()))
    clicks = events[(events["event_type"] == "click") & (events["event_ts"] < TODAY)]
    rows = clicks.iloc[rng.choice(len(clicks), len(kind), replace=False)].reset_index(drop=True)
    rows["event_id"] = [f"e-broken-{number:06d}" for number in range(len(rows))]
    rows.loc[kind == "null user_id", "user_id"] = None
    rows.loc[kind == "null event_id", "event_id"] = None
    rows.loc[kind == "unknown event_type", "event_type"] = "scroll_3"
    rows.loc[kind == "before 2000", "event_ts"] = pd.Timestamp("1970-01-01T00:00:00Z")
    rows.loc[kind == "after 2100", "event_ts"] = pd.Timestamp("2106-02-07T06:28:15Z")
    search = kind == "search without query"
    rows.loc[search, "event_type"] = "search"
    rows.loc[search, ["ad_id", "request_id"]] = None
    rows.loc[search, "cost"] = np.nan
    rows.loc[search, "position"] = pd.NA
    return rows


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    """By time; copies of an event stay together."""
    return events.sort_values(["event_ts", "event_id"], ignore_index=True)
