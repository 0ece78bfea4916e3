from datetime import date

import pytest
from pydantic import ValidationError

from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.training_config import TrainingConfig

AS_OF = date(2026, 3, 1)


def splits(days, **settings):
    """The splits of each of the days of February."""
    config = TrainingConfig(train_days=2, validation_days=1, test_days=1, **settings)
    return {day: splits_on(config, date(2026, 2, day)) for day in days}


def splits_on(config, day):
    return [split for split, (first, end) in config.windows(AS_OF).items() if first <= day < end]


def test_by_time_the_days_of_the_splits_follow_each_other_up_to_the_date():
    assert splits(range(24, 29)) == {24: [], 25: ["train"], 26: ["train"], 27: ["validation"], 28: ["test"]}


def test_by_users_the_days_of_all_splits_end_at_the_date():
    assert splits((26, 27, 28), split="users") == {26: [], 27: ["train"], 28: ["test", "validation", "train"]}


@pytest.mark.parametrize("split, cut", [("time", date(2026, 2, 27)), ("users", AS_OF)])
def test_the_cut_is_where_the_days_of_training_end(split, cut):
    config = TrainingConfig(split=split, train_days=2)
    assert config.cut(AS_OF) == cut
    assert "train" not in splits_on(config, cut)


def test_every_day_with_a_split_is_named_once_oldest_first():
    config = TrainingConfig(train_days=2, validation_days=0, test_days=1)
    assert config.days(AS_OF) == [date(2026, 2, day) for day in (26, 27, 28)]
    assert all(splits_on(config, day) for day in config.days(AS_OF))


@pytest.mark.parametrize("setting", [{"train_days": 0}, {"test_fold": 5}, {"split": "ads"}, {"negatives_exponent": 2}])
def test_what_makes_no_sense_is_refused(setting):
    with pytest.raises(ValidationError):
        TrainingConfig(**setting)


@pytest.mark.parametrize(
    "learning", [{"pretraining": {"objective": "next"}}, {"augmentation": {"crop": 0.1}}], ids=["pretrained", "varied"]
)
def test_histories_as_texts_have_no_single_behaviours_to_learn_from(learning):
    """Whoever asks for the network: a search may, where the settings do not."""
    with pytest.raises(ValidationError, match=r"expected .* where network\.behaviours is text"):
        RankerConfig.model_validate({"network": {"behaviours": "text"}, "learning": learning})
    RankerConfig.model_validate({"network": {"behaviours": "lstm"}, "learning": learning})
