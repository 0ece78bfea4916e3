"""What would showing every item equally often have earned? The Open Bandit logs say it, or are refused, and why.

    python benchmarks/open_bandit.py --from FOLDER

The target shows each of the 46 items with probability 1/46 at every position. On the log `random`, which did just that,
its value is the log's own click rate; on `bts` (Thompson sampling) a few rows carry all the weight. Intervals are those
of the daily job, over rows, since these logs name no users. DM and DR expect of an item its click rate, shrunk, so of
the uniform target their mean; each half of the rows is judged by the rates of the other.
"""

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from llmrec_spark.bootstrap import percentiles, poisson_table, user_weights
from llmrec_spark.config import StatisticsConfig
from llmrec_spark.evaluation_config import EvaluationConfig
from llmrec_spark.policy_values import ESTIMATES, policy_values, refusal, weight_figures

ITEMS = 46
POLICIES = ("random", "bts")
BOUNDS = EvaluationConfig().off_policy
REPLICATES = EvaluationConfig().replicates


def read_log(folder: Path, policy: str) -> pd.DataFrame:
    """item_id, position, click, propensity_score of each impression."""
    file = folder / policy / "women" / "women.csv.gz"
    return pd.read_csv(file, usecols=["item_id", "position", "click", "propensity_score"])


def uniform_target(log: pd.DataFrame) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """weights, rewards, expected, expected_of_policy: what policy_values takes, each of the rows."""
    weights, rewards = 1 / ITEMS / log["propensity_score"].to_numpy(), log["click"].to_numpy(dtype=float)
    items, half = log["item_id"].to_numpy(), np.arange(len(log)) % 2
    prior = StatisticsConfig().prior_shown
    rates = np.empty((2, ITEMS))
    for one in (0, 1):  # the rates that rows of a half are judged by
        of = half != one
        clicks, shown = np.bincount(items[of], rewards[of], ITEMS), np.bincount(items[of], minlength=ITEMS)
        rates[one] = (clicks + prior * rewards[of].mean()) / (shown + prior)
    return weights, rewards, rates[half, items], rates.mean(axis=1)[half]


def replicated(arrays: tuple[np.ndarray, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Estimates and, last, the mean weight: 95 % intervals over rows, low and high, each (M,)."""
    n = len(arrays[0])
    times = user_weights(np.random.default_rng(1).integers(2**62, size=n), REPLICATES, poisson_table())[1:]
    rows = [np.repeat(np.arange(n), of.astype(int)) for of in times]
    found = [[*policy_values(*(a[of] for a in arrays), clip=BOUNDS.clip).values(), arrays[0][of].mean()] for of in rows]
    return percentiles(np.array(found))


def main() -> None:
    """Prints the figures of the weights and the estimates of both logs, or why there are none."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--from", dest="folder", type=Path, required=True)
    arguments = options.parse_args()
    for policy in POLICIES:
        arrays = uniform_target(read_log(arguments.folder, policy))
        figures = weight_figures(arrays[0], arrays[1])
        low, high = replicated(arrays)
        print(f"\n{policy}: {figures.rows:,} rows, click rate {arrays[1].mean():.4f}; effective sample ", end="")
        print(f"{figures.effective_sample:,.0f}, of the clicks {figures.effective_clicks:,.0f}; ", end="")
        print(f"largest weight {figures.largest:,.0f}; {figures.top_share:.0%} of the weight on 1 % of the rows")
        why = refusal(figures, (low[-1], high[-1]), BOUNDS)
        if why is not None:
            print(f"refused: {why}")
            continue
        values = policy_values(*arrays, clip=BOUNDS.clip)
        for place, name in enumerate(ESTIMATES):
            print(f"{name:<12} {values[name]:.4f} [{low[place]:.4f}, {high[place]:.4f}]")


if __name__ == "__main__":
    main()
