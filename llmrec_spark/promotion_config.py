"""`promotion:` of a configuration: how much worse a challenger may be and still become champion."""

from __future__ import annotations

from pydantic import Field

from llmrec_spark.config_section import Section


class PromotionConfig(Section):
    """`promotion:` the gates between a challenger and the champion."""

    max_ndcg_loss: float = Field(0.01, ge=0, le=1)  # the lower end of challenger - champion may be so far below 0
    max_calibration_rise: float = Field(0.005, ge=0, le=1)  # of the calibration error of p_click
    max_coverage_loss: float = Field(0.05, ge=0, le=1)  # of the live ads in somebody's list
    max_group_loss: float = Field(0.03, ge=0, le=1)  # of nDCG, in the group of users that loses most
    max_seconds_ratio: float = Field(3.0, gt=0)  # challenger to champion, seconds of scoring per user
    min_users: int = Field(100, ge=1)  # who clicked, for a difference of nDCG to be judged; of a group likewise
    require_all: bool = True  # a gate that could not be judged fails
