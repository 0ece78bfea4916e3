import importlib
import re
import sys
from dataclasses import replace

import numpy as np
import pytest

from llmrec_spark.evaluation_config import OffPolicyConfig
from llmrec_spark.policy_values import effective_sample, policy_values, refusal, top_share, weight_figures
from tests.conftest import REPO, SHARED_DATA

sys.path.insert(0, str(REPO / "benchmarks"))
open_bandit = importlib.import_module("open_bandit")

OPEN_BANDIT = SHARED_DATA / "obd_small"
ONE = (0.97, 1.03)  # a mean weight as it should be
BOUNDS = OffPolicyConfig()


def test_the_estimates_of_four_impressions():
    weights, rewards = np.array([4.0, 0.0, 1.0, 1.0]), np.array([1.0, 1.0, 0.0, 1.0])
    expected, of_policy = np.array([0.5, 0.5, 0.5, 0.0]), np.array([0.2, 0.2, 0.4, 0.4])
    assert policy_values(weights, rewards, expected, of_policy, clip=2.0) == pytest.approx(
        {
            "ips": 5 / 4,
            "snips": 5 / 6,
            "clipped_ips": 3 / 4,
            "dm": 1.2 / 4,
            "dr": (1.2 + 4 * 0.5 - 0.5 + 1) / 4,
        }
    )


def test_without_rows_no_estimate_has_a_value():
    nothing = np.array([])
    assert np.isnan(list(policy_values(nothing, nothing, nothing, nothing, clip=1.0).values())).all()
    assert weight_figures(nothing, nothing).effective_sample == 0.0


def test_the_policy_that_logged_earns_what_was_earned():
    rewards = np.random.default_rng(1).random(50)
    found = policy_values(np.ones(50), rewards, np.full(50, 0.3), np.full(50, 0.3), clip=1.0)
    assert [found[name] for name in ("ips", "snips", "clipped_ips", "dr")] == pytest.approx([rewards.mean()] * 4)


def test_equal_weights_are_all_effective_and_a_heavy_one_is_alone():
    assert effective_sample(np.full(7, 3.0)) == pytest.approx(7)
    assert effective_sample(np.array([1000.0, 1.0, 0.0])) == pytest.approx(1.002, abs=1e-3)


def test_the_heaviest_hundredth_of_the_rows_is_counted_through_ties():
    assert top_share(np.array([1.0, 3.0]), np.array([196, 4])) == pytest.approx(2 * 3 / (196 + 12))
    assert top_share(np.array([5.0]), np.array([1])) == 1.0


GOOD = replace(weight_figures(np.ones(1000), np.arange(1000) < 100), rows=1010, impossible=10)


@pytest.mark.parametrize(
    "figures, mean_weight, reason",
    [
        (replace(GOOD, unknown=1010), ONE, "The log has no propensities."),
        (replace(GOOD, unknown=100), ONE, "100 of 1,010 impressions have no propensity .*at most 5% may"),
        (replace(GOOD, rows=1010, unlisted=1010, impossible=0), ONE, "shows nothing at any of the 1,010 positions"),
        (replace(GOOD, impossible=202), ONE, "could have shown its ads at 80.0% of the positions, 90% are needed"),
        (replace(GOOD, effective_sample=2.1), ONE, "^The effective sample is 2 of 1,000 rows, 100 are needed"),
        (replace(GOOD, effective_clicks=3.0), ONE, "effective number of clicks is 3, 20 are needed"),
        (replace(GOOD, largest=600.0), ONE, "The largest weight, 600, is 60% of all weight"),
        (GOOD, (0.5, 0.8), "mean weight is between 0.5 and 0.8 instead of 1"),
        (GOOD, (1.2, 2.8), "mean weight is between 1.2 and 2.8 instead of 1"),
    ],
)
def test_it_refuses_and_says_what_is_missing(figures, mean_weight, reason):
    said = refusal(figures, mean_weight, BOUNDS)
    assert re.search(reason, said or ""), said
    assert said.endswith(".")


def test_a_log_with_support_and_sample_is_not_refused():
    assert refusal(GOOD, ONE, BOUNDS) is None


@pytest.mark.skipif(not OPEN_BANDIT.exists(), reason=f"the Open Bandit logs are not at {OPEN_BANDIT}")
def test_of_open_bandit_the_random_log_gives_the_uniform_target_its_click_rate_and_thompson_sampling_is_refused(
    capsys, monkeypatch
):
    monkeypatch.setattr("sys.argv", ["open_bandit.py", "--from", str(OPEN_BANDIT)])
    open_bandit.main()
    random, bts = capsys.readouterr().out.split("\nbts:")
    assert "effective sample 10,000" in random
    assert all(f"{name:<12} 0.0046 [0.003" in random for name in ("ips", "snips", "clipped_ips"))
    assert "refused: The effective sample is 2 of 10,000 rows" in bts
    assert "the largest weight, 21,739, is 69% of all weight" in bts
    assert "ips" not in bts
