"""What a YAML file of conf/ may say of judging a day: its metrics, and how far it may move from the days before."""

from __future__ import annotations

from datetime import date, timedelta
from math import ceil

from pydantic import Field

from llmrec_spark.config_section import Section


class OffPolicyConfig(Section):
    """`evaluation.off_policy:` what the propensities of a log must allow before another ranking is valued by them."""

    min_effective_sample: float = Field(100.0, ge=1)  # rows of equal weight that would say as much
    min_effective_clicks: float = Field(20.0, ge=1)  # likewise, of the rows that were clicked
    max_weight_share: float = Field(0.05, gt=0, le=1)  # of all weight, on one row
    max_unknown_share: float = Field(0.05, ge=0, le=1)  # of the impressions, without propensity or position
    min_support: float = Field(0.9, gt=0, le=1)  # of the positions, where the log could have shown the other's ad
    clip: float = Field(100.0, ge=1)  # largest weight in clipped_ips


class EvaluationConfig(Section):
    """`evaluation:` how a day is judged once its clicks are in."""

    click_hours: float = Field(24.0, gt=0)  # after its impression a click counts
    conversion_days: float = Field(7.0, gt=0)  # after the last click a conversion is credited to it
    k: int = Field(10, ge=1)  # cut-off of the ranking metrics
    user_columns: tuple[str, ...] = ()  # of `users`: every metric by their values too
    group_columns: tuple[str, ...] = ()  # of `ads`: which share of the places each of their values has
    replicates: int = Field(200, ge=20)  # of the bootstrap
    seed: int = 1  # of the bootstrap
    off_policy: OffPolicyConfig = OffPolicyConfig()

    def windows_close(self, day: date) -> date:
        """By whose 00:00 UTC every window of what was shown on `day` has closed."""
        return day + timedelta(days=1 + ceil(self.click_hours / 24 + self.conversion_days))


class DriftConfig(Section):
    """`drift:` how far a day may move from the days before it until `alerts` has a row. Shares are of 1."""

    window_days: int = Field(28, ge=1)  # before the day: each weekday four times
    sample_rows: int = Field(10_000, ge=1, le=100_000)  # values kept of each score column of a day's lists
    min_sample: int = Field(10_000, ge=1)  # with fewer on either side a distance is told and raises no alert
    few_rows: int = Field(500, ge=1)  # a count or share of fewer rows raises no alert
    max_ks: float = Field(0.05, gt=0, le=1)  # distance between the distributions of scores
    min_rows_ratio: float = Field(0.5, ge=0, le=1)  # of a count to its mean
    max_rows_ratio: float = Field(2.0, ge=1)
    max_null_rise: float = Field(0.1, gt=0, le=1)  # of the rows without a value in a column
    max_new_rise: float = Field(0.1, gt=0, le=1)  # of the ads or users that the window has not met
    max_unknown_rise: float = Field(0.05, gt=0, le=1)  # of the tokens
    max_refused_rise: float = Field(0.01, gt=0, le=1)  # of the events read
    max_lists_rise: float = Field(0.1, gt=0, le=1)  # of the lists that are short or cold_start
    max_top_rise: float = Field(0.1, gt=0, le=1)  # of the lists whose first ad is the commonest first ad
    max_calibration_ratio: float = Field(2.0, ge=1)  # of the calibration error to its mean
