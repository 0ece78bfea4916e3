"""The world behind the sample: who the people are, what they like on each day, and so the true probabilities.

Everything follows from the ads and one seed. Only tests and benchmarks may ask `true_probabilities`.
"""

import json
import re
from dataclasses import dataclass
from datetime import date
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[Any]
Flags = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

FIRST_DAY = date(2026, 1, 30)
LAST_DAY = date(2026, 2, 28)
PEOPLE = 2000
WIDTH = 64  # of the space in which words of ads and tastes of people live
VISITS_PER_DAY = 0.35  # of a person of mean activity

LANGUAGES = {"en": 0.80, "zh": 0.12, "both": 0.08}
SEGMENTS = {"students": 0.18, "young professionals": 0.27, "families": 0.28, "home owners": 0.15, "retired": 0.12}
AGE_GROUPS = ("18-24", "25-34", "35-44", "45-54", "55-64", "65+")
AGES_OF_SEGMENT = np.array(
    [
        [0.85, 0.15, 0.00, 0.00, 0.00, 0.00],
        [0.20, 0.65, 0.15, 0.00, 0.00, 0.00],
        [0.00, 0.25, 0.45, 0.25, 0.05, 0.00],
        [0.00, 0.05, 0.25, 0.35, 0.30, 0.05],
        [0.00, 0.00, 0.00, 0.00, 0.25, 0.75],
    ]
)
SEASONS = {  # what the text of an ad must hold to be touched by the season
    "valentine": r"\b(valentine|gift|romantic|perfume|chocolate|flower|rose|necklace|lingerie|silk|for two)|礼物|情人",
    "winter": r"\b(winter|wool|thermal|skis?\b|snow|flannel|parka|insulated|duvet|cashmere)|冬|保暖|羽绒|取暖",
    "spring": r"\b(spring|garden|seed|bulb|hik|camp|tent|running|marathon|linen|trainer)|春|露营|跑|徒步",
    "weekend": r"\b(travel|flight|weekend|film|streaming|game|kids|brunch)|旅|游戏|电影|儿童",
}


@dataclass(frozen=True, eq=False)
class World:
    """A ads (in order of ad_id), U people (of user_id), C categories, W = WIDTH, S segments, L languages."""

    seed: int
    ads: pd.DataFrame
    people: pd.DataFrame
    category: Indices  # (A,)
    words: Floats  # (A, W) unit vectors; two ads that share words of title or tags are close
    appeal: Floats  # (A,) added to the log-odds of a click, whoever looks
    conversion: Floats  # (A,) added to the log-odds of a purchase after a click
    price: Floats  # (A,) median value of a purchase, USD
    season: Floats  # (4, A) 1 where an ad is touched by a season of SEASONS
    policy_scores: Floats  # (S, L, A) what the company's old ad server ordered by
    segment: Indices  # (U,)
    language: Indices  # (U,)
    activity: Floats  # (U,) visits per day
    turning: Floats  # (U,) how far interests drift in 30 days, 0 not at all, 1 to the other end
    interests: Floats  # (2, U, C) shares that sum to 1, at both ends of the drift
    tastes: Floats  # (2, U, W) likewise, in the space of words
    whim: Floats  # (U, A) liking that nothing else explains


def load_ads(path: str | Path) -> pd.DataFrame:
    """The ads of a JSON Lines file in its order; starts_at and ends_at as UTC timestamps, NaT where open."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    ads = pd.DataFrame([json.loads(line) for line in lines if line.strip()])
    return ads.assign(starts_at=utc(ads["starts_at"]), ends_at=utc(ads["ends_at"]))


def make_world(ads: pd.DataFrame, seed: int) -> World:
    """The world of these ads (columns of ads.jsonl, any order of rows) and this seed."""
    ads = ads.sort_values("ad_id", ignore_index=True)
    seeds = np.random.SeedSequence([seed, 0]).spawn(4)  # one for each, so that a changed tag changes no person
    for_people, for_ads, for_tastes, for_words = map(np.random.default_rng, seeds)
    categories, category = np.unique(ads["category"].to_numpy(dtype=str), return_inverse=True)
    words = word_vectors(ads, for_words)
    appeal = for_ads.normal(0, 0.35, len(ads))
    loved = for_ads.dirichlet(np.full(len(categories), 0.7), len(SEGMENTS))  # (S, C) what a segment cares about
    popularity = 0.8 * appeal + for_ads.gumbel(0, 0.6, len(ads))  # long-tailed, and only half right
    foreign = np.array([ads["language"] == "zh", ads["language"] == "en", np.zeros(len(ads), bool)])  # (L, A)
    policy_scores = popularity + 0.5 * np.log(loved[:, None, category] + 0.02) - 2.0 * foreign
    people, segment, language, activity = make_people(for_people)
    interests, tastes = make_interests(for_tastes, loved, segment, category, words)
    texts = (ads["title"] + " " + ads["tags"].str.join(" ") + " " + ads["category"]).str.lower()
    return World(
        seed=seed,
        ads=ads,
        people=people,
        category=category,
        words=words,
        appeal=appeal,
        conversion=for_ads.normal(0, 0.4, len(ads)),
        price=np.exp(for_ads.normal(3.4, 0.6, len(ads))),
        season=np.array([[bool(re.search(theme, text)) for text in texts] for theme in SEASONS.values()], dtype=float),
        policy_scores=policy_scores,
        segment=segment,
        language=language,
        activity=activity,
        turning=for_people.uniform(0, 0.8, PEOPLE),
        interests=interests,
        tastes=tastes,
        whim=for_tastes.normal(0, 0.3, (PEOPLE, len(ads))),
    )


def true_probabilities(world: World, day: date, user_ids: list[str], ad_ids: list[str]) -> tuple[Floats, Floats]:
    """For each pair: the probability of a click at position 1, and that of a purchase given a click."""
    users = pd.Index(world.people["user_id"]).get_indexer(pd.Index(user_ids))
    ads = pd.Index(world.ads["ad_id"]).get_indexer(pd.Index(ad_ids))
    if (users < 0).any() or (ads < 0).any():
        raise ValueError(f"{(users < 0).sum()} user_ids and {(ads < 0).sum()} ad_ids are not in this world")
    return probabilities(world, day, users, ads)


def probabilities(world: World, day: date, users: Indices, ads: Indices) -> tuple[Floats, Floats]:
    """`true_probabilities` by row number; the two broadcast, so users (n, 1) and ads (1, A) give every pair."""
    interest, taste = leanings(world, day, users, ads)
    liking = 0.9 * np.log((interest + 0.02) / 0.07) + 5.0 * taste + world.whim[users, ads]
    log_odds = -2.3 + liking + world.appeal[ads] + season_of(world, day)[ads]
    log_odds = log_odds - 4.0 * ~reads(world)[users, ads]
    return sigmoid(log_odds), sigmoid(-3.4 + 0.35 * liking + world.conversion[ads])


def leanings(world: World, day: date, users: Indices, ads: Indices) -> tuple[Floats, Floats]:
    """How much users are drawn to the category (share) and to the words (cosine-like) of ads on that day."""
    share = np.sin(0.5 * np.pi * world.turning[users] * (day - FIRST_DAY).days / 30) ** 2
    category = world.category[ads]
    interest = (1 - share) * world.interests[0][users, category] + share * world.interests[1][users, category]
    words = world.words[ads]
    before, after = ((taste[users] * words).sum(axis=-1) for taste in world.tastes)
    return interest, (1 - share) * before + share * after


def season_of(world: World, day: date) -> Floats:
    """(A,) what the calendar adds to the log-odds of a click."""
    to_valentine = (date(2026, 2, 14) - day).days
    valentine = max(0.0, 1 - to_valentine / 10) if to_valentine >= 0 else -0.2
    month = min((day - FIRST_DAY).days / 30, 2.0) - 0.5
    return np.array([0.9 * valentine, -0.5 * month, 0.5 * month, 0.3 * (day.weekday() >= 5)]) @ world.season


def reads(world: World) -> Flags:
    """(U, A) whether the person reads the ad's language."""
    names = np.array(list(LANGUAGES))[world.language]
    can: Flags = (names[:, None] == "both") | (names[:, None] == world.ads["language"].to_numpy(dtype=str))
    return can


def make_people(rng: np.random.Generator) -> tuple[pd.DataFrame, Indices, Indices, Floats]:
    """The `users` table, and each person's segment, language and visits per day."""
    segment = rng.choice(len(SEGMENTS), PEOPLE, p=list(SEGMENTS.values()))
    language = rng.choice(len(LANGUAGES), PEOPLE, p=list(LANGUAGES.values()))
    age = (rng.random(PEOPLE)[:, None] > AGES_OF_SEGMENT[segment].cumsum(axis=1)).sum(axis=1)
    new = rng.random(PEOPLE) < 0.15  # joined in the last seven days
    seconds_ago = np.where(new, rng.integers(0, 7 * 86400, PEOPLE), rng.integers(7 * 86400, 700 * 86400, PEOPLE))
    after = pd.Timestamp(LAST_DAY, tz="UTC") + pd.Timedelta(days=1)
    activity = VISITS_PER_DAY * np.exp(rng.normal(-0.25, 0.7, PEOPLE))  # of mean 1
    activity = activity * np.where(new, 3.0, 1.0)  # who has just come looks around
    people = pd.DataFrame(
        {
            "user_id": [f"u{number:05d}" for number in range(1, PEOPLE + 1)],
            "consent": rng.random(PEOPLE) >= 0.03,
            "segment": np.array(list(SEGMENTS), dtype=object)[segment],
            "age_group": np.array(AGE_GROUPS, dtype=object)[np.minimum(age, len(AGE_GROUPS) - 1)],
            "language": np.array(list(LANGUAGES), dtype=object)[language],
            "joined_at": (after - pd.to_timedelta(seconds_ago + 1, unit="s")).as_unit("ns"),
        }
    )
    return people, segment, language, activity


def make_interests(
    rng: np.random.Generator, loved: Floats, segment: Indices, category: Indices, words: Floats
) -> tuple[Floats, Floats]:
    """Sparse interests (2, U, C) near those of the segment, and tastes (2, U, W): a few themes within them."""
    alpha = 0.8 / loved.shape[1] + 1.0 * loved[segment]  # (U, C)
    draws = rng.gamma(alpha, size=(2, *alpha.shape)) + 1e-9
    interests = draws / draws.sum(axis=-1, keepdims=True)
    at_ads = interests[..., category].cumsum(axis=-1)  # (2, U, A)
    spots = rng.random((3, 2, len(segment), 1)) * at_ads[..., -1:]
    themes = np.array([(at_ads <= spot).sum(axis=-1) for spot in spots])  # (3, 2, U) ads whose words they like
    return interests, unit(words[themes].sum(axis=0))


def word_vectors(ads: pd.DataFrame, rng: np.random.Generator) -> Floats:
    """(A, WIDTH) unit vectors: the mean of a random vector per word of the tags (or else title), rare words more."""
    texts = [words_of(" ".join(tags or [title])) for tags, title in zip(ads["tags"], ads["title"], strict=True)]
    vocabulary = sorted({word for text in texts for word in text})
    row = {word: number for number, word in enumerate(vocabulary)}
    counts = np.zeros((len(texts), len(vocabulary)))
    for number, text in enumerate(texts):
        for word in text:
            counts[number, row[word]] += 1
    weights = counts * np.sqrt(np.log(len(texts) / (counts > 0).sum(axis=0)))
    meanings = rng.normal(size=(len(vocabulary), WIDTH))
    company = weights.T @ unit(weights @ meanings)  # words that keep the same company mean something alike
    vectors = weights @ (unit(meanings) + unit(company))
    return unit(vectors - vectors.mean(axis=0))


def words_of(text: str) -> list[str]:
    """Words of letters and digits, and pairs of Chinese characters, in order."""
    runs = re.findall(r"[a-z0-9]+|[\u4e00-\u9fff]+", text.lower())
    words = [[run] if run.isascii() else [run[i : i + 2] for i in range(max(1, len(run) - 1))] for run in runs]
    return list(chain.from_iterable(words))


def unit(vectors: Floats) -> Floats:
    """Each vector of the last axis at length 1; zero stays zero."""
    scaled: Floats = vectors / np.maximum(np.sqrt((vectors**2).sum(axis=-1, keepdims=True)), 1e-12)
    return scaled


def sigmoid(log_odds: Floats) -> Floats:
    """Rounded to 12 decimals, so another processor's last bit changes nothing."""
    probability: Floats = np.round(1 / (1 + np.exp(-log_odds)), 12)
    return probability


def utc(times: pd.Series) -> pd.Series:
    """Timestamps in UTC; null stays null, also where all are."""
    return pd.to_datetime(times, utc=True).astype("datetime64[ns, UTC]")
