"""On 200 seeded logs whose truth is known, 95 % intervals cover it 90 to 98 % of the time: each log is one slice."""

from collections import Counter

import numpy as np
import pandas as pd

from llmrec_spark.bootstrap import Resampling, intervals
from llmrec_spark.off_policy import RATIOS, policy_sums

REPEATS, USERS, SHOWN = 200, 250, 4  # logs, users of each, impressions of a user
OFTEN_ENOUGH = range(180, 197)  # 90 to 98 % of the logs
CLIP = 2.5
KINDS = np.array([0.5, 0.3, 0.2])  # of users
LOGGED = np.array([[0.5, 0.3, 0.2], [0.2, 0.6, 0.2], [0.15, 0.25, 0.6]])  # what the log shows each kind: 3 ads
TARGET = np.array([[0.2, 0.2, 0.6], [0.5, 0.3, 0.2], [0.3, 0.5, 0.2]])  # what the other ranking shows
CLICKED = np.array([[0.1, 0.2, 0.3], [0.3, 0.1, 0.2], [0.2, 0.4, 0.1]])
MODEL = 0.6 * CLICKED + 0.03  # a reward model that is wrong


def coverage(found, truths):
    """(scorer, metric) of `truths` -> how many of the slices have an interval that covers it."""
    rows = pd.DataFrame(found.toPandas())
    assert rows["slice"].nunique() == REPEATS
    truth = pd.Series([truths.get(key, np.nan) for key in zip(rows["scorer"], rows["metric"], strict=True)])
    covered = rows[(rows["low"] <= truth) & (truth <= rows["high"])]
    counts = Counter(zip(covered["scorer"], covered["metric"], strict=True))
    return {key: counts[key] for key in truths}


def people(rng):
    """slice, user_id: the log and the id of everybody; nobody is in two logs."""
    names = np.arange(REPEATS * USERS)
    return pd.DataFrame({"slice": np.char.mod("log%d", names // USERS), "user_id": np.char.mod("u%d", names)})


def test_intervals_cover_a_click_rate_and_the_paired_difference_of_two(spark):
    rng = np.random.default_rng(20260301)
    users = people(rng)
    shown = rng.integers(1, 10, len(users))
    level = rng.beta(2, 18, len(users))  # how much a user clicks, mean .1, whatever is shown
    rows = []
    for scorer, lift in (("a", 1.2), ("b", 1.0)):
        clicks = rng.binomial(shown, lift * level)
        rows.append(users.assign(scorer=scorer, sums=list(np.stack([clicks, shown], axis=1).astype(float))))
    sums = spark.createDataFrame(pd.concat(rows)[["user_id", "slice", "scorer", "sums"]])
    found = intervals(sums, Resampling(200, 1), ratios=["ctr"], pairs=[("a", "b")])
    covered = coverage(found, {("a", "ctr"): 0.12, ("b", "ctr"): 0.1, ("a - b", "ctr"): 0.02})
    assert {key for key, count in covered.items() if count in OFTEN_ENOUGH} == set(covered), covered


def test_intervals_cover_what_another_ranking_would_have_earned(spark):
    rng = np.random.default_rng(20260302)
    users = people(rng)
    kind = rng.choice(len(KINDS), len(users), p=KINDS)
    mood = rng.beta(4, 4, len(users)) * 2  # mean 1: the clicks of a user are not independent
    rows = users.loc[users.index.repeat(SHOWN)].assign(scorer="other")
    kind, mood = np.repeat(kind, SHOWN), np.repeat(mood, SHOWN)
    ad = (rng.random(len(rows))[:, None] > LOGGED.cumsum(axis=1)[kind]).sum(axis=1)
    rows["clicked"] = (rng.random(len(rows)) < mood * CLICKED[kind, ad]).astype(float)
    rows["weight"] = TARGET[kind, ad] / LOGGED[kind, ad]
    rows["expected"] = MODEL[kind, ad]
    rows["expected_of_policy"] = (TARGET * MODEL).sum(axis=1)[kind]
    weighted = spark.createDataFrame(rows)
    found = intervals(policy_sums(weighted, clip=CLIP), Resampling(200, 1), ratios=RATIOS)
    value, earned = (KINDS @ (shown * CLICKED).sum(axis=1) for shown in (TARGET, LOGGED))
    clipped = KINDS @ (np.minimum(TARGET / LOGGED, CLIP) * LOGGED * CLICKED).sum(axis=1)  # what it estimates
    truths = dict.fromkeys(("ips", "snips", "dr"), value) | {"logged": earned, "lift": value - earned}
    truths |= {"clipped_ips": clipped, "mean_weight": 1.0}
    covered = coverage(found, {("other", f"off_policy_{name}"): truth for name, truth in truths.items()})
    assert {key for key, count in covered.items() if count in OFTEN_ENOUGH} == set(covered), covered
    assert clipped < 0.95 * value
    modelled = coverage(found, {("other", "off_policy_dm"): value})
    assert modelled == {("other", "off_policy_dm"): 0}  # its interval knows nothing of an error of the model
