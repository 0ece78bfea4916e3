"""What the flags of score_daily do, on the golden tables and a MiniLM model, in this process."""

from pathlib import Path

from llmrec_spark.errors import TryAgainError
from tests.jobs.conftest import DAY, golden_rows, job, own
from tests.loopback import serving


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


def test_with_a_wrong_column_map_nobody_has_a_history_and_that_is_counted(spark, conf, model_folder, tmp_path):
    of_clicks = "events={max_refused_share: 1, weights: {impression: 0, click: 1}, conversions: [], searches: []}"
    changed = ("--set", of_clicks, "--set", "inputs.ads.columns={ad_id: title}")
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, *changed)
    assert code == 0, said
    assert {row.source for row in own(spark, tmp_path, "recommendations").collect()} == {"cold_start"}
    [run] = own(spark, tmp_path, "runs").collect()
    clicks = sum(row["event_type"] == "click" for row in golden_rows("events.jsonl"))
    assert run.counts["behaviours_without_ad"] == clicks


def test_a_shadow_run_publishes_nothing_and_later_tries_use_its_tables(
    spark, conf, model_folder, tmp_path, monkeypatch
):
    def conflict(*_):
        raise TryAgainError("another writer was faster")

    run = ("score_daily", "--config", conf, *DAY, "--model", model_folder)
    code, said = job(*run, "--shadow")
    assert code == 0, said
    assert own(spark, tmp_path, "rankings").count() > 0
    assert not (tmp_path / "own" / "recommendations").exists()
    with monkeypatch.context() as patched, serving() as server:
        patched.setattr("llmrec_spark.daily_runs.publish", conflict)
        told = ("--set", f"notify.openlineage_url=http://{server.place}")
        code, said = job(*run, *told)
        assert (code, "audited in an earlier try of this run" in said) == (75, True)
    assert not (tmp_path / "own" / "recommendations").exists()
    assert [event["eventType"] for _, _, event in server.seen] == ["START", "FAIL"]
    gauges = tmp_path / "llmrec.prom"
    another_bound = ("--set", "audit.max_short_share=0.99")
    with serving() as server:
        told = ("--set", f"notify.openlineage_url=http://{server.place}", "--set", f"notify.prometheus_file={gauges}")
        code, said = job(*run, *told, *another_bound)
        assert code == 0, said
        assert job(*run, *told)[0] == 0  # published already: nobody is told
    assert said.count("of an earlier try of this run") == 8  # every stage of the line, to be audited by another bound
    assert "published 2026-03-01: " in said
    started, completed = [event for _, _, event in server.seen]
    assert (started["eventType"], completed["eventType"]) == ("START", "COMPLETE")
    assert [Path(one["name"]).name for one in completed["outputs"]] == ["rankings", "recommendations"]
    assert {Path(one["name"]).name for one in completed["inputs"]} == {"events", "ads"}
    rows = own(spark, tmp_path, "recommendations").count()
    assert 'llmrec_recommendations{job="score_daily",model_version="folder:' in gauges.read_text(encoding="utf-8")
    assert f"}} {float(rows)}" in gauges.read_text(encoding="utf-8")
