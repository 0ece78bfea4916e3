"""How much of what the simulated people like can be known from a month of their clicks?

    python benchmarks/sample_bound.py

Judges the lists of the last three days that hold a click and an ad without one: by the click rate of the days before,
by the best of readers, and by the true probabilities. That reader knows how the world was made: segment, language,
appeal, season, examination, and the distribution that interests, tastes and their drift are drawn from. What it does
not know is the person. It is told the clicks and skips of the days before, and concludes by a Gaussian process whose
covariance is that of 3,000 people drawn from the same distribution (Laplace approximation; Rasmussen and Williams,
"Gaussian Processes for Machine Learning", 2006, algorithm 3.1). No ranker that learns from the log can hope for more.
"""

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd

from llmrec_spark.held_back import judge

sys.path.insert(0, str(Path(__file__).parents[1] / "data" / "sample"))
import simulated_days
import simulated_world
import simulator
from simulated_world import World

DRAWN, STEPS = 3_000, 30
JUDGED_DAYS, PRIOR_SHOWN, K = 3, 10, 10
WHIM = 0.3  # as simulated_world.make_world draws it


def impressions(world: World) -> pd.DataFrame:
    """user, ad, day (from 0), position, request, clicked of the whole month, before any dirt."""
    log = simulated_days.simulate(world, simulated_world.FIRST_DAY, simulated_world.LAST_DAY)
    shown, clicks = (log[log["event_type"] == kind] for kind in ("impression", "click"))
    by_time = pd.merge_asof(
        clicks.sort_values("event_ts")[["user_id", "ad_id", "event_ts"]],
        shown.sort_values("event_ts")[["user_id", "ad_id", "event_ts", "event_id"]],
        on="event_ts",
        by=["user_id", "ad_id"],
    )
    day = shown["event_ts"].dt.tz_localize(None).dt.normalize() - pd.Timestamp(simulated_world.FIRST_DAY)
    return pd.DataFrame(
        {
            "user": pd.Index(world.people["user_id"]).get_indexer(shown["user_id"]),
            "ad": pd.Index(world.ads["ad_id"]).get_indexer(shown["ad_id"]),
            "day": day.dt.days,
            "position": shown["position"].astype(int),
            "request": shown["request_id"],
            "clicked": shown["event_id"].isin(by_time["event_id"]),
        }
    ).reset_index(drop=True)


class Reader:
    """The best of readers of one world."""

    def __init__(self, world: World) -> None:
        self.world = world
        seeds = np.random.SeedSequence([world.seed, 0]).spawn(4)
        of_ads, rng = np.random.default_rng(seeds[1]), np.random.default_rng(0)
        of_ads.normal(0, 0.35, len(world.ads))  # what make_world draws before it
        categories = len(np.unique(world.category))
        loved = of_ads.dirichlet(np.full(categories, 0.7), len(simulated_world.SEGMENTS))
        self.drawn = []
        for segment in range(len(simulated_world.SEGMENTS)):
            people = np.full(DRAWN, segment)
            interests, tastes = simulated_world.make_interests(rng, loved, people, world.category, world.words)
            self.drawn.append((interests[..., world.category], tastes @ world.words.T, rng.uniform(0, 0.8, DRAWN)))
        days = (simulated_world.LAST_DAY - simulated_world.FIRST_DAY).days + 1
        self.season = np.array(
            [simulated_world.season_of(world, simulated_world.FIRST_DAY + timedelta(days=day)) for day in range(days)]
        )

    def liking(self, segment: int, ad: np.ndarray, day: np.ndarray) -> np.ndarray:
        """(DRAWN, n) how people of a segment like ads (n,) on days (n,): as simulated_world.probabilities has it."""
        interests, tastes, turning = self.drawn[segment]
        share = np.sin(0.5 * np.pi * turning[:, None] * day / 30) ** 2
        interest = (1 - share) * interests[0][:, ad] + share * interests[1][:, ad]
        taste = (1 - share) * tastes[0][:, ad] + share * tastes[1][:, ad]
        return np.asarray(0.9 * np.log((interest + 0.02) / 0.07) + 5.0 * taste)

    def log_odds(self, history: pd.DataFrame, asked: pd.DataFrame) -> np.ndarray:
        """Of a click at the first position for the rows `asked` of one user, after the rows of `history`."""
        world, user, n = self.world, int(asked["user"].iloc[0]), len(history)
        rows = pd.concat([history, asked])
        ad, day = rows["ad"].to_numpy(), rows["day"].to_numpy()
        liked = self.liking(int(world.segment[user]), ad, day)
        covariance = np.cov(liked.T).reshape(len(ad), len(ad)) + WHIM**2 * (ad[:, None] == ad)
        base = -2.3 + world.appeal[ad] + self.season[day, ad] + liked.mean(axis=0)
        base -= 4.0 * ~simulated_world.reads(world)[user, ad]
        seen = np.log(simulated_days.EXAMINATION[rows["position"].to_numpy() - 1])
        weight = mode_weights((base + seen)[:n], covariance[:n, :n], history["clicked"].to_numpy(dtype=float))
        return np.asarray(base[n:] + covariance[n:, :n] @ weight)


def mode_weights(base: np.ndarray, covariance: np.ndarray, clicked: np.ndarray) -> np.ndarray:
    """alpha (n,) of the posterior mode: taste of another ad is its covariance with the history times alpha."""
    taste = weight = np.zeros(len(base))
    for step in range(STEPS):
        p = 1 / (1 + np.exp(-base - taste))
        root = np.sqrt(np.maximum(p * (1 - p), 1e-6))
        target = root**2 * taste + clicked - p
        inner = np.eye(len(base)) + root[:, None] * covariance * root
        weight = target - root * np.linalg.solve(inner, root * (covariance @ target))
        moved = covariance @ weight
        taste = moved if step > 4 else 0.5 * (taste + moved)  # half steps first: the whole one may jump too far
    return weight


def main() -> None:
    """Prints nDCG and group AUC of rate, reader and truth, and how far the reader is on the way between them."""
    world = simulated_world.make_world(
        simulator.load_ads(Path(simulator.__file__).parent / "ads.jsonl"), simulator.SEED
    )
    shown = impressions(world)
    first = shown["day"].max() + 1 - JUDGED_DAYS
    mixed = shown.groupby("request")["clicked"].transform("mean").between(0, 1, inclusive="neither")
    asked = shown[mixed & (shown["day"] >= first)].sort_values("request", kind="stable")
    counts = shown[shown["day"] < first].groupby("ad")["clicked"].agg(["size", "sum"]).reindex(range(len(world.ads)))
    counts = counts.fillna(0).to_numpy()
    rate = (counts[:, 1] + PRIOR_SHOWN * counts[:, 1].sum() / counts[:, 0].sum()) / (counts[:, 0] + PRIOR_SHOWN)
    reader, of_users = Reader(world), dict(list(shown.groupby("user")))
    found, truth = [], []
    for _, rows in asked.groupby("request", sort=True):
        user, day = int(rows["user"].iloc[0]), int(rows["day"].iloc[0])
        history = of_users[user]
        found.append(reader.log_odds(history[history["day"] < day], rows))
        on = simulated_world.FIRST_DAY + timedelta(days=day)
        truth.append(simulated_world.probabilities(world, on, rows["user"].to_numpy(), rows["ad"].to_numpy())[0])
    scores = {
        "rate": rate[asked["ad"]],
        "best reader": np.concatenate(found),
        "truth": np.concatenate(truth),
    }
    clicked, users = asked["clicked"].to_numpy(), asked["user"].astype(str).to_numpy()
    number = pd.factorize(asked["request"])[0]
    judged = judge(scores, clicked, number, users, pairs=[], k=K, replicates=200, seed=1)
    print(f"{judged.lists:,} lists of {judged.users:,} people")
    low, high = (judged.values[name]["ndcg"].value for name in ("rate", "truth"))
    for name, of in judged.values.items():
        way = (of["ndcg"].value - low) / (high - low)
        print(f"{name:<12} nDCG@{K} {of['ndcg'].value:.4f}  group AUC {of['group_auc'].value:.4f}  way {way:.2f}")
    p_reader, p_truth = 1 / (1 + np.exp(-scores["best reader"])), scores["truth"]
    print(f"correlation of the reader's p_click with the truth: {np.corrcoef(p_reader, p_truth)[0, 1]:.2f}")


if __name__ == "__main__":
    main()
