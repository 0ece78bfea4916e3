"""What the flags of score_daily do, on the golden tables and MiniLM, in this process; of --shadow see test_evaluate."""

from tests.jobs.conftest import DAY, job


def test_a_dry_run_prints_the_plan_and_writes_nothing(conf, model_folder, tmp_path):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, "--dry-run")
    assert code == 0
    assert "2026-03-01: run " in said
    assert "matches, rankings, recommendations" in said
    assert "tastes" not in said  # of trained models
    assert not (tmp_path / "own").exists()
