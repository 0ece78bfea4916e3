"""What `training:` in a YAML file of conf/ may say of the examples, and which days they are of."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal

from pydantic import Field

from llmrec_spark.config_section import Section

FOLDS = 5  # of users, and of the inner folds

Split = Literal["train", "validation", "test"]


class TrainingConfig(Section):
    """`training:` which examples a model learns from, and what was known of each.

    With `split: time` the days of train, validation and test follow each other. With `split: users` the windows of all
    three end at the date, the users of the test fold and of the validation fold have examples in their own windows
    only, and nothing they did is counted in a statistic of an ad. Then, with `statistics: other_folds`, their examples
    have the statistics of all days before the date.
    """

    split: Literal["time", "users"] = "time"
    train_days: int = Field(28, ge=1)
    validation_days: int = Field(1, ge=0)
    test_days: int = Field(1, ge=0)
    test_fold: int = Field(0, ge=0, lt=FOLDS)  # split: users; the fold that is scored
    validation_fold: int | None = Field(0, ge=0, lt=FOLDS)  # split: users; inner fold held back from the other users
    history: Literal["earlier_days", "other_requests"] = "earlier_days"  # of an example of split train
    statistics: Literal["earlier_days", "other_folds"] = "earlier_days"  # of an ad, in an example of split train
    click_hours: float = Field(24.0, gt=0)  # after its impression a click counts
    conversion_days: float = Field(7.0, gt=0)  # after the last click a conversion is credited to it
    negatives_per_positive: int = Field(4, ge=1)  # events.impressions: []; ads drawn beside each ad acted on
    negatives_exponent: float = Field(0.75, ge=0, le=1)  # drawn by (users who acted on the ad + 1) to it; 0: all alike
    seed: int = 1  # of these draws

    @property
    def has_validation(self) -> bool:
        """Whether lists are held back to calibrate and to choose by."""
        return self.validation_days > 0 and (self.split == "time" or self.validation_fold is not None)

    def windows(self, as_of: date) -> dict[Split, tuple[date, date]]:
        """Of each split its first day and the day after its last, for a model trained at `as_of` 00:00 UTC."""
        days: dict[Split, int] = {
            "test": self.test_days,
            "validation": self.validation_days,
            "train": self.train_days,
        }
        windows: dict[Split, tuple[date, date]] = {}
        end = as_of
        for split, length in days.items():
            windows[split] = (end - timedelta(days=length), end)
            if self.split == "time":
                end = windows[split][0]
        return windows

    def days(self, as_of: date) -> list[date]:
        """Every day that has examples, oldest first."""
        first = min(first for first, _ in self.windows(as_of).values())
        return [first + timedelta(days=number) for number in range((as_of - first).days)]

    def cut(self, as_of: date) -> date:
        """The day at whose beginning, 00:00 UTC, the days of training end."""
        return self.windows(as_of)["train"][1]
