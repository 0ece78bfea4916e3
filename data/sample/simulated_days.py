"""What the people of a simulated world do, day by day: visits, what they are shown, and what follows.

Each day has its own randomness, so any day can be simulated alone.
"""

from datetime import date, timedelta

import numpy as np
import pandas as pd
from simulated_world import Array, Flags, Floats, Indices, World, probabilities, reads, utc

EXPLORATION = 0.1  # share of positions the ad server filled with any ad that could run
EXAMINATION = np.array([1.0, 0.82, 0.70, 0.61, 0.54, 0.48, 0.44, 0.40, 0.37, 0.35])  # who looks at position 1..10
WEEKDAYS = (1.0, 0.95, 0.95, 1.0, 1.05, 1.2, 1.2)  # visits, from Monday
HOURS = np.array([2, 1, 1, 1, 1, 1, 2, 4, 5, 5, 5, 5, 6, 6, 5, 5, 5, 6, 8, 11, 12, 10, 7, 4])
WEEKEND_HOURS = np.array([4, 3, 2, 1, 1, 1, 1, 2, 4, 6, 8, 8, 8, 8, 8, 7, 7, 7, 8, 9, 10, 9, 7, 5])
PHRASES = {
    "en": ["{0}", "{0} {1}", "{1} {0}", "best {0}", "{0} deals", "cheap {0}", "{0} reviews"],
    "zh": ["{0}", "{0} {1}", "{0} 推荐", "{0} 哪个好", "{0} 优惠", "{1} {0}"],
}
COLUMNS = [
    *["event_id", "user_id", "ad_id", "event_type", "event_ts", "value", "cost"],
    *["request_id", "position", "propensity", "query"],
]


def simulate(world: World, first_day: date, last_day: date) -> pd.DataFrame:
    """COLUMNS of all that began on these days under the company's own ad server, clean, in order of time.

    A day is the same whichever days are asked for with it. Purchases may fall up to two days after their click.
    """
    days = [first_day + timedelta(days=n) for n in range((last_day - first_day).days + 1)]
    events = []
    for day in days:
        visits = visits_of(world, day)
        shown = impressions(world, day, visits)
        parts = [*responses(world, day, shown), searches(world, day, visits)]
        events.append(as_log(world, parts, f"{day:%Y%m%d}"))
    return pd.concat(events, ignore_index=True).sort_values(["event_ts", "event_id"], ignore_index=True)


def answer(world: World, day: date, lists: pd.DataFrame, *, since: pd.Timestamp | None = None) -> pd.DataFrame:
    """COLUMNS of what people do on `day` when `lists` (user_id, rank, ad_id, [propensity]) are shown to them.

    Who visits, when and how far down they are shown ads is as under the company's ad server; a person without
    a list sees nothing. An ad that does not run at that time is left out, and those below it move up. Visits that
    began before `since` were answered by somebody else.
    """
    visits = visits_of(world, day)
    if since is not None:
        visits = visits[visits["at"] >= since.tz_convert(None)]
    numbers = pd.DataFrame(
        {
            "user": pd.Index(world.people["user_id"]).get_indexer(lists["user_id"]),
            "ad": pd.Index(world.ads["ad_id"]).get_indexer(lists["ad_id"]),
            "rank": lists["rank"].to_numpy(),
            "propensity": lists["propensity"].to_numpy() if "propensity" in lists else np.nan,
        }
    )
    shown = visits.merge(numbers[(numbers["user"] >= 0) & (numbers["ad"] >= 0)], how="inner", on="user")
    shown = shown[runs_at(world, shown["at"].to_numpy())[np.arange(len(shown)), shown["ad"]]]
    shown = shown.sort_values(["visit", "rank"], ignore_index=True)
    shown["position"] = shown.groupby("visit").cumcount() + 1
    shown = shown[shown["position"] <= shown["positions"]].reset_index(drop=True)
    return as_log(world, responses(world, day, shown), f"{day:%Y%m%d}-answer")


def visits_of(world: World, day: date) -> pd.DataFrame:
    """visit (its number), user, at, positions (how many ads are shown), in order of time."""
    rng = stream(world, day, 1)
    user = np.repeat(np.arange(len(world.people)), rng.poisson(world.activity * WEEKDAYS[day.weekday()]))
    hours = WEEKEND_HOURS if day.weekday() >= 5 else HOURS
    hour = rng.choice(24, len(user), p=hours / hours.sum())
    at = np.datetime64(day, "ms") + hour * 3_600_000 + rng.integers(0, 3_600_000, len(user))
    visits = pd.DataFrame({"user": user, "at": at, "positions": rng.integers(6, 11, len(user))})
    visits = visits[at >= naive(world.people["joined_at"])[user]].sort_values(["at", "user"], ignore_index=True)
    return visits.assign(visit=np.arange(len(visits)))


def impressions(world: World, day: date, visits: pd.DataFrame) -> pd.DataFrame:
    """Visits with ad, position and propensity: positions are filled one after the other, without replacement."""
    rng = stream(world, day, 2)
    user, rows = visits["user"].to_numpy(), np.arange(len(visits))
    scores = world.policy_scores[world.segment[user], world.language[user]]  # (visits, A)
    available = runs_at(world, visits["at"].to_numpy())
    positions = np.minimum(visits["positions"].to_numpy(), available.sum(axis=1))
    shown = []
    for position in range(1, positions.max(initial=0) + 1):
        drawn = rng.random(len(visits))
        open_rows = rows[positions >= position]
        chances = position_chances(scores[open_rows], available[open_rows])
        ad = draw(chances, drawn[open_rows])
        available[open_rows, ad] = False
        propensity = chances[np.arange(len(ad)), ad]
        shown.append(visits.iloc[open_rows].assign(ad=ad, position=position, propensity=propensity))
    return pd.concat(shown, ignore_index=True) if shown else visits.assign(ad=0, position=0, propensity=0.0)


def position_chances(scores: Floats, available: Flags) -> Floats:
    """(n, A) each ad's probability to be shown next: softmax of the scores, mixed with EXPLORATION, of what is left."""
    weights = np.exp(scores - scores.max(axis=1, keepdims=True)) * available
    weights /= weights.sum(axis=1, keepdims=True)
    chances = (1 - EXPLORATION) * weights + EXPLORATION * available / available.sum(axis=1, keepdims=True)
    rounded: Floats = np.round(chances, 12)  # another processor's last bit changes nothing
    return rounded


def draw(chances: Floats, uniform: Floats) -> Indices:
    """The column each row's uniform number falls on; never one of chance 0."""
    edges = chances.cumsum(axis=1)
    column: Indices = (edges <= (uniform * edges[:, -1])[:, None]).sum(axis=1)
    return column


def responses(world: World, day: date, shown: pd.DataFrame) -> list[pd.DataFrame]:
    """Impressions, clicks, carts, purchases and hides that follow from `shown`: visit, user, at, ad, position."""
    rng = stream(world, day, 3)
    ad, count = shown["ad"].to_numpy(), len(shown)
    p_click, p_conversion = probabilities(world, day, shown["user"].to_numpy(), ad)
    clicked = rng.random(count) < p_click * EXAMINATION[shown["position"] - 1]
    bought = clicked & (rng.random(count) < p_conversion)
    in_cart = bought | (clicked & (rng.random(count) < 0.06))
    hidden = ~clicked & (rng.random(count) < 0.002 * (1 - p_click) ** 8)
    traced = rng.random(count) < 0.85  # clicks that still know their request
    click_at = shown["at"] + milliseconds(1500 + 25_000 * np.exp(rng.normal(0, 1.0, count)))
    cart_at = click_at + milliseconds(20_000 + 180_000 * np.exp(rng.normal(0, 0.8, count)))
    thinking = np.minimum(60_000 * np.exp(rng.normal(3.5, 2.0, count)), 46 * 3_600_000)
    bought_at = cart_at + milliseconds(30_000 + thinking)
    value = np.round(world.price[ad] * np.exp(rng.normal(0, 0.25, count)), 2)
    hide_at = shown["at"] + milliseconds(2000 + 10_000 * rng.random(count))

    shown = shown.assign(event_type="impression", value=np.nan, cost=np.nan, query=None)
    later = shown.assign(propensity=np.nan)
    clicks = later.assign(event_type="click", at=click_at, cost=world.ads["bid"].to_numpy(dtype=float)[ad])
    clicks = clicks.assign(visit=clicks["visit"].where(traced, -1), position=clicks["position"].where(traced, 0))
    shop = later.assign(visit=-1, position=0)  # the shop knows the person and the product, not the request
    return [
        shown,
        clicks[clicked],
        shop.assign(event_type="cart", at=cart_at)[in_cart],
        shop.assign(event_type="purchase", at=bought_at, value=value)[bought],
        later.assign(event_type="hide", at=hide_at)[hidden],
    ]


def searches(world: World, day: date, visits: pd.DataFrame) -> pd.DataFrame:
    """Some visits begin with a search: user, at, query; words of an ad that the person can read and would like."""
    rng = stream(world, day, 4)
    found = visits[rng.random(len(visits)) < 0.2]
    user = found["user"].to_numpy()
    p_click, _ = probabilities(world, day, user[:, None], np.arange(len(world.ads))[None, :])
    wishes = reads(world)[user] * p_click**2 + 1e-12
    ads = world.ads.iloc[draw(wishes, rng.random(len(found)))]
    picks = rng.random((len(found), 3))
    queries = [phrase(*row) for row in zip(ads["language"], ads["tags"], ads["category"], picks, strict=True)]
    found = found.assign(at=found["at"] + milliseconds(20_000 + 120_000 * rng.random(len(found))))
    found = found.assign(event_type="search", query=queries, visit=-1, ad=-1, position=0)
    return found.assign(value=np.nan, cost=np.nan, propensity=np.nan)


def phrase(language: str, tags: list[str], category: str, picks: Floats) -> str:
    """One search text around two of the tags, the first ones most; picks are three uniform numbers."""
    words = [*tags, category] if len(tags) < 2 else tags
    first = int(picks[0] * min(2, len(words)))
    second = (first + 1 + int(picks[1] * (len(words) - 1))) % len(words)
    phrases = PHRASES[language]
    return phrases[int(picks[2] * len(phrases))].format(words[first], words[second])


def as_log(world: World, parts: list[pd.DataFrame], mark: str) -> pd.DataFrame:
    """COLUMNS of one day's events in order of time; numbers become ids, -1 and position 0 null.

    mark begins every event_id and request_id and keeps them apart from those of other days.
    """
    events = pd.concat(parts).sort_values(["at", "user", "event_type", "position"], kind="stable", ignore_index=True)
    users = world.people["user_id"].to_numpy(dtype=object)
    ads = np.array([*world.ads["ad_id"], None], dtype=object)  # -1 is the last
    position = events["position"].astype("Int32")
    return pd.DataFrame(
        {
            "event_id": [f"e-{mark}-{number:06d}" for number in range(len(events))],
            "user_id": users[events["user"]],
            "ad_id": ads[events["ad"]],
            "event_type": events["event_type"],
            "event_ts": utc(events["at"]),
            "value": events["value"],
            "cost": events["cost"],
            "request_id": [None if visit < 0 else f"r-{mark}-{visit:05d}" for visit in events["visit"]],
            "position": position.mask(position == 0),
            "propensity": events["propensity"],
            "query": events["query"],
        },
        columns=COLUMNS,
    )


def stream(world: World, day: date, purpose: int) -> np.random.Generator:
    """The day's own randomness for one purpose: 1 visits, 2 the ad server, 3 responses, 4 searches."""
    return np.random.default_rng(np.random.SeedSequence([world.seed, day.toordinal(), purpose]))


def runs_at(world: World, at: Array) -> Flags:
    """(n, A) whether the ad runs at that time; an open end (NaT) compares as false."""
    starts, ends = naive(world.ads["starts_at"]), naive(world.ads["ends_at"])
    running: Flags = ~(at[:, None] < starts) & ~(at[:, None] >= ends)
    return running


def naive(times: pd.Series) -> Array:
    """UTC timestamps as numpy's, to the millisecond."""
    plain: Array = times.dt.tz_localize(None).to_numpy(dtype="datetime64[ms]")
    return plain


def milliseconds(durations: Floats) -> Array:
    """Rounded down."""
    whole: Array = durations.astype("timedelta64[ms]")
    return whole
