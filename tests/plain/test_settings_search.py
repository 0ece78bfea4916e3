"""A search of settings by a figure that is known of each: killed, out of time, with settings that fail."""

import math
import signal
import subprocess
import sys
import time

import pytest
from pydantic import ValidationError

from llmrec_spark.config import Config
from llmrec_spark.errors import DataError, TryAgainError
from llmrec_spark.ranker_config import RankerConfig
from llmrec_spark.search_config import SearchConfig, as_parameters, with_parameters
from llmrec_spark.settings_search import Budget, open_study
from tests.conftest import REPO

OWN = RankerConfig(columns=("year",), groups=("maker",))
KILLED = """
import os, signal, sys
from pathlib import Path
from llmrec_spark.settings_search import Budget, open_study
from tests.plain.test_settings_search import OWN, RANGES, figure

def fatal(settings):
    with open(sys.argv[1] + ".begun", "a") as begun:
        begun.write("x")
    if Path(sys.argv[1] + ".begun").stat().st_size == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    return figure(settings)

with open_study(Path(sys.argv[1]), OWN, RANGES) as study:
    study.search(fatal, Budget(14), told=lambda trial: None)
"""
RANGES = SearchConfig()


def figure(settings):
    """Best at effect_spread 1, text_rank 100, with trees and without the year."""
    off = abs(math.log(settings.effect_spread)) + abs(math.log(settings.text_rank / 100))
    return 1 - off / 10 + 0.1 * ("trees" in settings.rerank) - 0.2 * ("year" in settings.columns)


def searched(file, of=figure, trials=14, minutes=None, ranges=RANGES, told=lambda trial: None):
    with open_study(file, OWN, ranges) as study:
        return study.search(of, Budget(trials, minutes), told=told)


def plain(search):
    return [(trial.number, trial.settings, trial.ndcg) for trial in search.trials]


def test_the_first_trial_is_of_the_settings_as_they_are_and_the_best_is_chosen(tmp_path):
    found = searched(tmp_path / "a.db")
    assert found.trials[0].settings == as_parameters(OWN)
    assert found.trials[0].ndcg == figure(OWN)
    assert found.chosen.ndcg == max(trial.ndcg for trial in found.trials) > figure(OWN)
    assert figure(found.settings) == found.chosen.ndcg


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The trials of a search that nothing stopped."""
    return plain(searched(tmp_path_factory.mktemp("search") / "whole.db"))


@pytest.mark.parametrize("begun", [1, 13])  # 13: after those that are drawn evenly
def test_a_search_that_was_killed_goes_on_to_the_trials_it_would_have_had(tmp_path, whole, begun):
    file = tmp_path / "killed.db"
    killed = subprocess.run([sys.executable, "-c", KILLED, file, str(begun)], cwd=REPO, check=False)
    assert killed.returncode == -signal.SIGKILL
    tried = []
    found = searched(file, of=lambda settings: tried.append(settings) or figure(settings))
    assert plain(found) == whole
    assert len(tried) == 14 - (begun - 1)


def test_a_search_of_more_trials_begins_with_those_of_fewer(tmp_path):
    few = searched(tmp_path / "a.db", trials=3)
    assert plain(searched(tmp_path / "a.db", trials=6))[:3] == plain(few)
    assert plain(searched(tmp_path / "a.db", trials=3)) == plain(searched(tmp_path / "a.db", trials=6))


def test_no_trial_is_begun_when_the_minutes_are_over_and_the_search_can_go_on(tmp_path):
    told = []

    def slow(settings):
        time.sleep(0.2)
        return figure(settings)

    found = searched(tmp_path / "a.db", of=slow, minutes=0.1 / 60, told=told.append)
    assert len(found.trials) == 1
    assert found.settings == OWN
    assert found.chosen.seconds >= 0.2
    assert [trial.number for trial in told] == [1]
    assert len(searched(tmp_path / "a.db", trials=2, minutes=1).trials) == 2


def test_settings_that_fail_are_recorded_and_end_nothing(tmp_path):
    def broken(settings):
        if settings.effect_spread < 1:
            raise ValueError("it does not fit")
        return math.nan if "trees" in settings.rerank else figure(settings)

    found = searched(tmp_path / "a.db", of=broken)
    errors = {trial.error for trial in found.trials if trial.ndcg is None}
    assert errors == {"ValueError: it does not fit", "its figure is nan"}
    assert len(found.trials) == 14
    assert found.chosen.error == ""


def test_where_every_trial_fails_the_last_error_is_said(tmp_path):
    with pytest.raises(DataError, match=r"each of 2 trials failed, the last with: its figure is nan"):
        searched(tmp_path / "a.db", of=lambda settings: math.nan, trials=2)


def test_settings_that_were_tried_are_not_trained_again(tmp_path):
    ranges = SearchConfig(effect_spread=None, text_rank=None, rerank=((), ("linear",)), leave_out=False)
    tried = []
    found = searched(tmp_path / "a.db", of=lambda one: tried.append(one.rerank) or figure(one), trials=8, ranges=ranges)
    assert sorted(tried) == [(), ("linear",)]
    assert len(found.trials) == 8


def test_two_jobs_do_not_search_in_one_file(tmp_path):
    with (
        open_study(tmp_path / "a.db", OWN, RANGES),
        pytest.raises(TryAgainError, match="another job"),
        open_study(tmp_path / "a.db", OWN, RANGES),
    ):
        pass


def test_a_range_is_widened_to_the_setting_itself(tmp_path):
    ranges = SearchConfig(effect_spread=(3, 4), text_rank=(500, 600), rerank=(("linear",),))
    found = searched(tmp_path / "a.db", trials=3, ranges=ranges)
    assert found.trials[0].settings == as_parameters(OWN)


def test_texts_that_promise_nothing_are_left_so(tmp_path):
    with open_study(tmp_path / "a.db", OWN.model_copy(update={"text_rank": 0}), RANGES) as study:
        found = study.search(lambda settings: settings.effect_spread, Budget(3), told=lambda trial: None)
    assert found.settings.text_rank == 0


def test_parameters_are_settings_and_back():
    assert with_parameters(OWN, as_parameters(OWN)) == OWN
    assert with_parameters(OWN, {"column year": False, "rerank": "linear trees"}) == OWN.model_copy(
        update={"columns": (), "rerank": ("linear", "trees")}
    )


@pytest.mark.parametrize("wrong", [{"effect_spread": (2, 1)}, {"text_rank": (0, 4)}, {"rerank": [["forest"]]}])
def test_ranges_that_cannot_be_are_refused(wrong):
    with pytest.raises(ValidationError):
        SearchConfig.model_validate(wrong)


def test_another_search_has_another_digest_and_the_place_of_its_file_does_not_matter():
    places = {"events": {"path": "e"}, "ads": {"path": "a"}}
    least = {"inputs": places, "tables": {"root": "o"}, "mlflow": {"tracking_uri": "sqlite:///m.db"}}
    own = Config.model_validate(least).search_digest()
    assert own == Config.model_validate(least | {"search": {"folder": "elsewhere"}}).search_digest()
    others = (
        *({"search": {"seed": 2}}, {"ranker": {"kernel_lists": 50}}, {"text": {"fields": ["title"]}}),
        *({"evaluation": {"k": 5}}, {"search": {"rerank": [[]]}}),
    )
    assert own not in {Config.model_validate(least | one).search_digest() for one in others}
