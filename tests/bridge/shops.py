"""Random shops for the bridge tests: a catalogue in a folder, histories as Spark holds them, figures and slow twins."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isnan, log
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from pyspark.sql import DataFrame, SparkSession

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.match import Parameters
from tests.model.catalogues import Behaviour, World, random_histories, random_world
from tests.model.slow_match import cosine, similarity, slow_match, slow_uniform_match, softmax, texts_of, tfidf

HISTORIES = (
    "user_id string, ad_ids array<string>, query_hashes array<string>, event_types array<string>, "
    "log_priors array<double>"
)
PAIRS = "user_id string, ad_id string"
SIGMA = 0.07
BETA = MatchConfig().beta
DEFAULT = Parameters.of(MatchConfig())


class Expected(NamedTuple):
    """A row of `matches` by the twin. match is NaN for none."""

    ad_id: str
    match: float
    lift: float
    log_odds: float
    score: float


def rounded(value: float) -> float:
    """To 6 significant digits."""
    return float(f"{value:.5e}")


@dataclass(frozen=True)
class Shop:
    """A world saved as a catalogue, and its users u0, u1, ...; None is a user without a history."""

    world: World
    users: Sequence[Sequence[Behaviour] | None]
    folder: str

    @cached_property
    def slow(self) -> dict[str, dict[str, float]]:
        """Match by user and live ad, following the formula in plain Python."""
        return {
            f"u{number}": {ad: slow_match(self.world, history, ad, DEFAULT) for ad in self.world.live}
            for number, history in enumerate(self.users)
        }

    @cached_property
    def slow_uniform(self) -> dict[str, dict[str, float]]:
        """As `slow`, of the uniform form."""
        return {
            f"u{number}": {ad: slow_uniform_match(self.world, history, ad) for ad in self.world.live}
            for number, history in enumerate(self.users)
        }

    def is_cold(self, user: str) -> bool:
        """Whether the user has no usable history."""
        return all(isnan(match) for match in self.slow[user].values())

    def everyone(self, spark: SparkSession) -> DataFrame:
        """user_id of every user."""
        return spark.createDataFrame([(f"u{number}",) for number in range(len(self.users))], "user_id string")

    def histories(self, spark: SparkSession) -> DataFrame:
        """As llmrec_spark.sequences.histories gives them."""
        rows = [
            (
                f"u{number}",
                [one.ad_id for one in history],
                [one.query for one in history],
                [one.event_type for one in history],
                [one.log_prior for one in history],
            )
            for number, history in enumerate(self.users)
            if history is not None
        ]
        return spark.createDataFrame(rows, HISTORIES)

    def figures(self, *, sigma: float | None = SIGMA, seed: int = 0) -> pd.DataFrame:
        """Rates of few values, so that cold users have ties, and backgrounds of every live ad with text."""
        rng = np.random.default_rng(seed)
        live = sorted(self.world.live)
        background = np.where([bool(self.world.ads[ad]) for ad in live], rng.normal(0, 0.1, len(live)), np.nan)
        return pd.DataFrame(
            {
                "ad_id": live,
                "rate": rng.choice([0.02, 0.05, 0.3], len(live)),
                "background": background,
                "sigma": np.nan if sigma is None else sigma,
                "price": 1.0,
            }
        )

    def expected(self, figures: pd.DataFrame, *, uniform: bool = False) -> dict[str, list[Expected]]:
        """Every live ad that can be ordered, best first, of each user."""
        found: dict[str, list[Expected]] = {}
        for user, matched in (self.slow_uniform if uniform else self.slow).items():
            rows = []
            for ad in figures.itertuples():
                match = matched[ad.ad_id]
                flat = isnan(match) or isnan(ad.sigma) or ad.sigma < 1e-6
                lift = 0.0 if flat else (match - ad.background) / ad.sigma
                log_odds = log(ad.rate / (1 - ad.rate)) + BETA * lift
                score = match if uniform and not self.is_cold(user) else log_odds
                if not isnan(score):
                    rows.append(Expected(ad.ad_id, match, lift, log_odds, score))
            found[user] = sorted(rows, key=lambda row: (-rounded(row.score), -rounded(row.log_odds), row.ad_id))
        return found


def shop_of(folder: Path, world: World, users: Sequence[Sequence[Behaviour] | None]) -> Shop:
    """These users of this world, its catalogue saved below `folder`."""
    return Shop(world, users, world.opened(folder)[0])


def random_shop(folder: Path, seed: int = 3) -> Shop:
    """30 users, the first two without a usable history, and 25 live ads, the first without text."""
    world = random_world(seed, ads=27)
    return shop_of(folder, world, random_histories(seed, world, users=30))


def slow_parts(shop: Shop, user: str, ad_id: str, *, scale: float) -> dict[tuple[str | None, str, str], float]:
    """Parts of log_odds by (ad, event type, field), keywords as a field, by the formula; those that float32 holds."""
    world, shown = shop.world, shop.world.ads[ad_id]
    usable = [(one, texts) for one in shop.users[int(user[1:])] or [] if (texts := texts_of(world, one))]
    if not usable or not shown:
        return {}
    c = [similarity(world, texts, list(shown.values()), DEFAULT) for _, texts in usable]
    b = softmax([one.log_prior + c_i / DEFAULT.behaviour_temperature for (one, _), c_i in zip(usable, c, strict=True)])
    share, parts = DEFAULT.keyword_share, defaultdict(float)
    words = tfidf([word for text in shown.values() for word in text.keywords], world)
    for b_i, (one, texts) in zip(b, usable, strict=True):
        mean = np.mean([world.vectors[text.text_hash].astype(float) for text in texts], axis=0)
        s = [float(mean / np.linalg.norm(mean) @ world.vectors[text.text_hash]) for text in shown.values()]
        w = softmax([s_j / DEFAULT.field_temperature for s_j in s])
        for field, w_j, s_j in zip(shown, w, s, strict=True):
            parts[one.ad_id, one.event_type, field] += scale * b_i * (1 - share) * w_j * s_j
        k = cosine(tfidf([word for text in texts for word in text.keywords], world), words)
        parts[one.ad_id, one.event_type, "keywords"] += scale * b_i * share * k
    return {name: part for name, part in parts.items() if abs(part) > 1e-30}
