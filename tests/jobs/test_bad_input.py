"""Every error a user can cause names where, what was found, what was expected and what to do, with its exit code.

Jobs run in this process, on the tests' session: their errors are what is tested, not the start of a Java machine. What
an audit refuses is in test_evaluate, where a day is at hand.
"""

import shutil

import pytest

from tests.jobs.conftest import DAY, job, write_conf


def test_a_missing_config_file_is_named(spark):
    code, said = job("score_daily", "--config", "conf/none.yaml", *DAY)
    assert (code, "conf/none.yaml: cannot be read" in said) == (78, True)


def test_an_unknown_key_is_refused_with_the_nearest(conf):
    code, said = job("score_daily", "--config", conf, *DAY, "--set", "match.betta=1")
    assert code == 78
    assert "match.betta: unknown key. Did you mean match.beta?" in said


@pytest.mark.parametrize(
    "arguments", [(), ("--from", "2026-03-01"), ("--from", "2026-03-02", "--to", "2026-03-01"), ("--date", "1.3.2026")]
)
def test_wrong_days_are_a_usage_error(conf, arguments):
    assert job("score_daily", "--config", conf, *arguments)[0] == 2


def test_a_missing_table_is_named(tables, tmp_path, model_folder):
    conf = write_conf(tables, tmp_path / "conf.yaml", inputs={"events": {"path": "/no/such"}, "ads": {"path": "/no"}})
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder)
    assert code == 65
    assert "inputs.events: no Delta table at /no/such" in said


def test_a_missing_column_is_named_with_the_line_to_write(tables, tmp_path, model_folder):
    ads = {"path": str(tables / "local/golden/ads"), "columns": {"title": "headline"}}
    conf = write_conf(
        tables, tmp_path / "conf.yaml", inputs={"events": {"path": str(tables / "local/golden/events")}, "ads": ads}
    )
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder)
    assert code == 65
    assert "the column map names ['headline']; the table has" in said


def test_a_column_of_the_wrong_type_is_named(tables, tmp_path, model_folder):
    events = {"path": str(tables / "local/golden/events"), "columns": {"event_ts": "user_id", "user_id": "event_id"}}
    conf = write_conf(
        tables, tmp_path / "conf.yaml", inputs={"events": events, "ads": {"path": str(tables / "local/golden/ads")}}
    )
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder)
    assert code == 65
    assert "column 'user_id' is string, expected timestamp" in said


def test_an_alias_that_is_not_there_is_answered_with_the_versions(conf):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", "models:/llmrec_ad_matcher@challenger")
    assert code == 78
    assert "versions of llmrec_ad_matcher there: none" in said


def test_a_registry_that_is_not_there_is_named(tables, tmp_path):
    conf = write_conf(tables, tmp_path / "conf.yaml")
    code, said = job("score_daily", "--config", conf, *DAY)
    assert code == 78
    assert "there is no registry at sqlite:///" in said


def test_a_folder_that_is_no_model_is_refused(conf, tmp_path):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", tmp_path)
    assert (code, "is no model folder (no MANIFEST.json)" in said) == (78, True)


def test_a_model_with_a_byte_changed_is_refused(conf, model_folder, tmp_path):
    changed = tmp_path / "changed"
    shutil.copytree(model_folder, changed)
    content = bytearray((changed / "keywords.json").read_bytes())
    content[-2] ^= 1
    (changed / "keywords.json").write_bytes(content)
    code, said = job("score_daily", "--config", conf, *DAY, "--model", changed)
    assert code == 78
    assert "keywords.json" in said


def test_a_model_of_other_text_fields_is_refused(conf, model_folder):
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, "--set", "text.fields=[title]")
    assert code == 78
    assert "was registered for text.fields" in said


def test_an_encoder_folder_with_pickled_weights_is_refused(conf, tmp_path):
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "pytorch_model.bin").write_bytes(b"")
    code, said = job("register_model", "--config", conf, "--encoder", tmp_path / "encoder")
    assert code == 78
    assert "safetensors" in said


def test_no_event_before_the_day_is_bad_data(conf, model_folder):
    code, said = job("score_daily", "--config", conf, "--date", "2020-01-01", "--model", model_folder)
    assert code == 65
    assert "none accepted before 2020-01-01 00:00 UTC" in said


def test_a_stale_log_is_bad_data(conf, model_folder):
    code, said = job("score_daily", "--config", conf, "--date", "2026-03-09", "--model", model_folder)
    assert code == 65
    assert "older than events.max_age_hours = 48" in said


def test_too_many_refused_rows_are_bad_data(conf, model_folder):
    narrow = (
        "--set",
        "events={max_refused_share: 0.05, weights: {click: 1, search: 1}, impressions: [], conversions: []}",
    )
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder, *narrow)
    assert code == 65
    assert "rows refused (unknown event_type" in said


def test_empty_events_are_bad_data(spark, tables, tmp_path, model_folder):
    spark.read.format("delta").load(str(tables / "local/golden/events")).limit(0).write.format("delta").save(
        str(tmp_path / "events")
    )
    inputs = {"events": {"path": str(tmp_path / "events")}, "ads": {"path": str(tables / "local/golden/ads")}}
    conf = write_conf(tables, tmp_path / "conf.yaml", inputs=inputs)
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder)
    assert code == 65
    assert "0 rows read" in said


def test_a_root_that_cannot_be_written_is_a_config_error(tables, tmp_path, model_folder):
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    conf = write_conf(tables, tmp_path / "conf.yaml", tables={"root": str(tmp_path / "file")})
    code, said = job("score_daily", "--config", conf, *DAY, "--model", model_folder)
    assert code == 78
    assert "Give tables.root a folder or URI that this user may write to" in said


def test_a_registry_that_does_not_answer_says_try_again(tables, tmp_path):
    conf = write_conf(tables, tmp_path / "conf.yaml", mlflow={"tracking_uri": "http://127.0.0.1:9"})
    code, said = job("score_daily", "--config", conf, *DAY)
    assert code == 75, said
    assert "MLflow does not answer" in said
