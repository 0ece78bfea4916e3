"""What the flags of score_daily do, on the golden tables and MiniLM, in this process; of --shadow see test_evaluate."""

import pytest

from tests.jobs.conftest import DAY, job


def test_jobs_run_one_after_another_until_one_fails():
    three = ("show_lists", "--help", "then", "score_daily", "--nonsense", "then", "promote_model", "--help")
    code, said = job("run_jobs", *three)
    assert code == 2
    assert "ads shown of each list" in said
    assert "score_daily.py: error: " in said
    assert "champion" not in said


@pytest.mark.parametrize("asked, found", [((), "nothing"), (("score",), "score"), (("show_lists", "then"), "nothing")])
def test_what_is_no_job_is_refused_before_any_runs(asked, found):
    code, said = job("run_jobs", *asked)
    assert code == 2
    assert f"found {found}, expected a job (adapt_encoder, " in said


def test_a_dry_run_prints_the_plan_and_writes_nothing(conf, model_folder, tmp_path):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, "--dry-run")
    assert code == 0
    assert "2026-03-01: run " in said
    assert "matches, rankings, recommendations" in said
    assert "tastes" not in said  # of trained models
    assert not (tmp_path / "own").exists()
