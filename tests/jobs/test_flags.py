"""What the flags of score_daily do, on the golden tables and MiniLM, in this process; of --shadow see test_evaluate."""

from tests.jobs.conftest import DAY, job, own


def test_a_dry_run_prints_the_plan_and_writes_nothing(conf, model_folder, tmp_path):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, "--dry-run")
    assert code == 0
    assert "2026-03-01: run " in said
    assert not (tmp_path / "own").exists()


def test_a_back_fill_publishes_each_day_once_and_old_runs_are_forgotten(spark, conf, model_folder, tmp_path):
    days = ("--from", "2026-02-28", "--to", "2026-03-01", "--model", model_folder, "--set", "tables.keep_days=1")
    code, said = job("score_daily", "--config", conf, *days)
    assert code == 0, said
    assert [day for day in ("2026-02-28", "2026-03-01") if f"published {day}: " in said] == ["2026-02-28", "2026-03-01"]
    shown = {str(row.run_date): row.run_id for row in own(spark, tmp_path, "recommendations").collect()}
    runs = {row.run_id: row.status for row in own(spark, tmp_path, "runs").collect()}
    assert sorted(shown) == ["2026-02-28", "2026-03-01"]
    assert runs == {shown["2026-02-28"]: "expired", shown["2026-03-01"]: "published"}
    for table in ("sequences", "ad_texts", "exclusions", "backgrounds", "matches", "rankings"):
        assert {row.run_id for row in own(spark, tmp_path, table).collect()} <= {shown["2026-03-01"]}
    code, said = job("score_daily", "--config", conf, *days)
    assert (code, said.count("is published already, by run")) == (0, 2)
