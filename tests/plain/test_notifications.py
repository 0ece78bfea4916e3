import json
import math
import os
import sys
import time
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from uuid import UUID

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmrec_spark import notifications
from llmrec_spark.config import HookConfig, NotifyConfig
from llmrec_spark.lineage_events import dataset_name
from llmrec_spark.notifications import call_hooks, emit_lineage, write_prometheus
from tests.loopback import Server, serving

MESSAGE = {
    "job": "evaluate_daily",
    "run_date": "2026-03-01",
    "run_id": "042943f36352ce99",
    "alerts": [{"name": "ndcg", "value": 0.41, "bound": 0.5, "reason": "ndcg fell below its bound: 下降"}],
}
RUN = {"job": "score_daily", "run_id": "042943f36352ce99", "run_date": date(2026, 3, 1)}


@contextmanager
def unused_place():
    """A port of loopback where nothing listens."""
    server = Server()
    place = server.place
    server.server_close()
    yield place


def python(code, *, timeout=10.0):
    return HookConfig(command=(sys.executable, "-c", code), timeout_seconds=timeout)


def webhook(place, *, timeout=10.0):
    return HookConfig(webhook=f"http://robot:hunter2@{place}/services/T0KEN?key=s3cret", timeout_seconds=timeout)


def failure(hook, message=MESSAGE):
    """The one line of a hook that fails, in which no secret of its URL stands."""
    [line] = call_hooks([hook], message)
    assert "\n" not in line
    assert not [secret for secret in ("robot", "hunter2", "T0KEN", "s3cret") if secret in line]
    return line


def test_a_command_reads_the_message_on_its_standard_input(tmp_path):
    found = tmp_path / "found.json"
    code = f"import pathlib, sys; pathlib.Path({str(found)!r}).write_bytes(sys.stdin.buffer.read())"
    assert call_hooks([python(code)], MESSAGE) == []
    assert json.loads(found.read_text(encoding="utf-8")) == MESSAGE


def test_the_arguments_of_a_command_are_read_by_no_shell(tmp_path):
    code = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])"
    argument = "$HOME; exit 3 `id`"
    hook = HookConfig(command=(sys.executable, "-c", code, str(tmp_path / "found"), argument))
    assert call_hooks([hook], MESSAGE) == []
    assert (tmp_path / "found").read_text() == argument


def test_a_command_may_leave_the_message_unread():
    long = {**MESSAGE, "alerts": MESSAGE["alerts"] * 50_000}  # more than a pipe holds
    assert call_hooks([python("pass")], long) == []


def test_the_output_of_a_command_is_not_in_that_of_the_job(capfd):
    assert call_hooks([python("import sys; print('out'); print('err', file=sys.stderr)")], MESSAGE) == []
    assert capfd.readouterr() == ("", "")


def test_a_command_that_fails_is_named_with_its_exit_code_and_last_words():
    code = "import sys; print('no', file=sys.stderr); sys.exit('no channel at https://robot:hunter2@chat/T0KEN')"
    said = failure(python(code))
    assert said == (
        f"notify.hooks.0 (command {sys.executable}): exit code 1 (no channel at https://chat), expected exit code 0 "
        "within 10 s."
    )


def test_a_command_that_fails_silently_is_told():
    assert "exit code 3 (nothing on its standard error)" in failure(python("raise SystemExit(3)"))


@pytest.mark.parametrize(
    "command, why", [("/nowhere/page-us", "No such file or directory"), ("/etc", "Permission denied"), ("a\0b", "Val")]
)
def test_a_command_that_cannot_start_is_told(command, why):
    assert f"cannot be started ({why}" in failure(HookConfig(command=(command,)))


def test_a_command_that_hangs_is_killed_with_what_it_started(tmp_path):
    child = f"import os, pathlib, time; pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); "
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child + 'time.sleep(60)'!r}])"
    started = time.monotonic()
    assert "was still running and was killed" in failure(python(code, timeout=3.0))
    assert time.monotonic() - started < 20
    pid = int((tmp_path / "pid").read_text())
    while time.monotonic() - started < 20 and is_running(pid):
        time.sleep(0.02)
    assert not is_running(pid)


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_webhook_gets_the_message_as_json():
    with serving() as server:
        assert call_hooks([webhook(server.place)], MESSAGE) == []
    [(path, headers, body)] = server.seen
    assert path == "/services/T0KEN?key=s3cret"
    assert headers["Content-Type"] == "application/json; charset=utf-8"
    assert headers["Authorization"].startswith("Basic ")  # user and password of the URL
    assert body == MESSAGE


@pytest.mark.parametrize("status", [302, 404, 500])
def test_a_webhook_that_answers_otherwise_is_told_and_called_once(status):
    with serving(status=status) as server:
        said = failure(webhook(server.place))
    assert said == (
        f"notify.hooks.0 (webhook http://{server.place}): answered {status}, expected a 2xx answer within 10 s."
    )
    assert len(server.seen) == 1


def test_a_webhook_where_nothing_listens_is_told():
    with unused_place() as place:
        assert "cannot be reached (Connection refused)" in failure(webhook(place))


@pytest.mark.parametrize("url", ["http://[host/T0KEN", "http://robot:hunter2@127.0.0.1:port/", "http:///T0KEN"])
def test_a_webhook_whose_url_cannot_be_is_told(url):
    assert "cannot be reached (" in failure(HookConfig(webhook=url))


@pytest.mark.parametrize("how", ["hangs", "trickles"])
def test_a_webhook_that_never_ends_is_left_after_its_time(how):
    with serving(**{how: True}) as server:
        started = time.monotonic()
        assert "no answer, expected a 2xx answer within 0.5 s" in failure(webhook(server.place, timeout=0.5))
        assert time.monotonic() - started < 3


def test_every_hook_is_called_whatever_the_others_do():
    with serving() as server, serving(status=500) as broken:
        lines = call_hooks([python("raise SystemExit(1)"), webhook(broken.place), webhook(server.place)], MESSAGE)
    assert [line.split(" (")[0] for line in lines] == ["notify.hooks.0", "notify.hooks.1"]
    assert len(server.seen) == 1


def test_without_hooks_nothing_is_done():
    assert call_hooks([], MESSAGE) == []


def test_a_number_that_json_lacks_is_null_and_a_date_is_text():
    with serving() as server:
        alerts = [{"name": "auc", "value": math.nan, "bound": math.inf, "reason": ""}]
        assert call_hooks([webhook(server.place)], {"run_date": date(2026, 3, 1), "alerts": alerts}) == []
    assert server.seen[0][2] == {
        "run_date": "2026-03-01",
        "alerts": [{"name": "auc", "value": None, "bound": None, "reason": ""}],
    }


# ── OpenLineage


def emitted(event="COMPLETE", *, config=None, error=None, **changed):
    """What a server got of one event."""
    with serving(status=201) as server:
        config = config or NotifyConfig(openlineage_url=f"http://{server.place}")
        values = {**RUN, "inputs": {}, "input_versions": {}, "outputs": [], **changed}
        assert emit_lineage(config, event=event, error=error, **values) is None
    [(path, _, body)] = server.seen
    assert path == "/api/v1/lineage"
    return body


@pytest.mark.parametrize("event", ["START", "COMPLETE", "FAIL"])
def test_an_event_has_what_openlineage_requires(event):
    body = emitted(event, inputs={"events": "main.logs.events"}, outputs=["main.llmrec.recommendations"], error="no")
    assert body["eventType"] == event
    assert abs(datetime.now(UTC) - datetime.fromisoformat(body["eventTime"])).total_seconds() < 60
    assert UUID(body["run"]["runId"]).version == 5
    assert (body["job"]["namespace"], body["job"]["name"]) == ("llmrec_spark", "score_daily")
    assert body["producer"].startswith("urn:")
    assert body["schemaURL"].endswith("OpenLineage.json#/$defs/RunEvent")
    assert [(one["namespace"], one["name"]) for one in body["inputs"]] == [("llmrec_spark", "main.logs.events")]
    assert [one["name"] for one in body["outputs"]] == ["main.llmrec.recommendations"]
    facets = [*body["run"]["facets"].values(), *body["inputs"][0]["facets"].values()]
    assert all(facet["_producer"] == body["producer"] and "$defs" in facet["_schemaURL"] for facet in facets)


def test_the_day_is_the_nominal_time_of_the_run():
    assert emitted()["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-03-01T00:00:00Z"


def test_an_input_names_its_version_and_one_without_has_none():
    body = emitted(inputs={"events": "main.logs.events", "ads": "main.ads"}, input_versions={"events": "3fa1@7"})
    facets = {one["name"]: one["facets"] for one in body["inputs"]}
    assert facets["main.logs.events"]["version"]["datasetVersion"] == "3fa1@7"
    assert facets["main.ads"] == {}


def test_a_failed_run_says_its_error_on_one_line_without_secrets():
    facet = emitted("FAIL", error="DataError: no table at\ns3a://key:hunter2@logs/events?token=s3cret, 3 rows")
    assert facet["run"]["facets"]["errorMessage"]["message"] == "DataError: no table at s3a://logs/events 3 rows"
    assert facet["run"]["facets"]["errorMessage"]["programmingLanguage"] == "PYTHON"


def test_only_a_failed_run_says_an_error():
    assert "errorMessage" not in emitted("COMPLETE", error="no")["run"]["facets"]


def test_the_events_of_a_run_share_an_id_that_follows_from_job_and_run_id():
    ids = [emitted(event, **changed)["run"]["runId"] for event, changed in SAME_RUN]
    others = [emitted(job="evaluate_daily")["run"]["runId"], emitted(run_id="77c0")["run"]["runId"]]
    assert len(set(ids)) == 1
    assert len({ids[0], *others}) == 3


SAME_RUN = [("START", {}), ("COMPLETE", {"run_date": date(2026, 3, 2)})]


def test_the_namespace_is_that_of_the_configuration_and_the_endpoint_is_below_its_url():
    with serving() as server:
        url = f"http://{server.place}/marquez/?code=1"
        config = NotifyConfig(openlineage_url=url, openlineage_namespace="ads")
        found = emit_lineage(config, **RUN, event="START", inputs={"ads": "a.b"}, input_versions={}, outputs=[])
    [(path, _, body)] = server.seen
    assert found is None
    assert path == "/marquez/api/v1/lineage?code=1"
    assert (body["job"]["namespace"], body["inputs"][0]["namespace"]) == ("ads", "ads")


def lineage_warning(place):
    config = NotifyConfig(openlineage_url=f"http://robot:hunter2@{place}/T0KEN?key=s3cret")
    return emit_lineage(config, **RUN, event="START", inputs={}, input_versions={}, outputs=[])


def test_a_server_that_refuses_an_event_is_a_line_without_secrets():
    with serving(status=500) as server:
        assert lineage_warning(server.place) == (
            f"notify.openlineage_url (http://{server.place}): START of run 042943f36352ce99: answered 500, expected a "
            "2xx answer within 5 s."
        )
    assert len(server.seen) == 1


def test_an_event_waits_for_no_server_longer_than_its_time(monkeypatch):
    monkeypatch.setattr(notifications, "LINEAGE_SECONDS", 0.5)
    with serving(hangs=True) as server:
        started = time.monotonic()
        assert "no answer, expected a 2xx answer within 0.5 s" in lineage_warning(server.place)
        assert time.monotonic() - started < 3


def test_an_event_for_a_server_that_is_not_there_is_a_line():
    with unused_place() as place:
        assert "cannot be reached (Connection refused)" in lineage_warning(place)


def test_without_a_url_no_event_is_made():
    assert emit_lineage(NotifyConfig(), **RUN, event="START", inputs={}, input_versions={}, outputs=[]) is None


def test_an_event_that_cannot_be_made_is_a_line():
    config = NotifyConfig(openlineage_url="http://127.0.0.1:9")
    found = emit_lineage(config, **RUN, event="DONE", inputs={}, input_versions={}, outputs=[])
    assert "the event cannot be made (ValueError)" in found


@pytest.mark.parametrize(
    "place, namespace, name",
    [
        ("s3a://company/logs/user_events/", "s3://company", "logs/user_events"),
        ("gs://company/logs", "gs://company", "logs"),
        ("hdfs://namenode:8020/logs/events", "hdfs://namenode:8020", "/logs/events"),
        (
            "abfss://ads@company.dfs.core.windows.net/creatives",
            "abfss://ads@company.dfs.core.windows.net",
            "creatives",
        ),
        ("/data/events", "file", "/data/events"),
        ("file:/data/events", "file", "/data/events"),
        ("file:///data/events", "file", "/data/events"),
        ("delta.`/data/tables/rankings`", "file", "/data/tables/rankings"),
        ("delta.`s3a://company/llmrec/rankings`", "s3://company", "llmrec/rankings"),
        ("main.logs.user_events", "llmrec_spark", "main.logs.user_events"),
    ],
)
def test_a_table_is_named_by_its_place(place, namespace, name):
    assert dataset_name(place, namespace="llmrec_spark") == (namespace, name)


def test_a_folder_of_this_project_is_named_by_its_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert dataset_name("local/events", namespace="n") == ("file", str(tmp_path.resolve() / "local" / "events"))


# ── Prometheus

LABELS = {"job": "score_daily", "model_version": "3"}


def gauges(path):
    """name -> (value, labels) of every sample, and that each is a gauge."""
    families = list(text_string_to_metric_families(path.read_text(encoding="utf-8")))
    assert {family.type for family in families} <= {"gauge"}
    return {sample.name: (sample.value, sample.labels) for family in families for sample in family.samples}


def test_the_file_holds_every_gauge_with_its_labels(tmp_path):
    path = tmp_path / "llmrec.prom"
    assert write_prometheus(path, {"users": 2000, "sequences_seconds": 10.25, "gap": math.inf}, LABELS) is None
    assert gauges(path) == {
        "llmrec_users": (2000.0, LABELS),
        "llmrec_sequences_seconds": (10.25, LABELS),
        "llmrec_gap": (math.inf, LABELS),
    }


def test_names_are_made_fit_and_nan_is_left_out(tmp_path):
    counts = {"events_refused: no user_id": 7, "nDCG@10": 0.5, "auc": math.nan}
    assert write_prometheus(tmp_path / "a.prom", counts, LABELS) is None
    assert {name: value for name, (value, _) in gauges(tmp_path / "a.prom").items()} == {
        "llmrec_events_refused_no_user_id": 7.0,
        "llmrec_nDCG_10": 0.5,
    }


def test_of_two_names_that_become_one_the_first_stands(tmp_path):
    assert write_prometheus(tmp_path / "a.prom", {"a:b": 1, "a b": 2}, {}) is None
    assert gauges(tmp_path / "a.prom") == {"llmrec_a_b": (2.0, {})}


def test_a_label_may_hold_any_text(tmp_path):
    labels = {"model_version": 'folder:"a\\b"\n模型'}
    write_prometheus(tmp_path / "a.prom", {"users": 1}, labels)
    assert gauges(tmp_path / "a.prom")["llmrec_users"] == (1.0, labels)


def test_the_file_is_replaced_whole_and_nothing_stays_beside_it(tmp_path):
    path = tmp_path / "llmrec.prom"
    write_prometheus(path, {"users": 1, "gone": 1}, LABELS)
    reader = path.open(encoding="utf-8")  # a reader that has begun
    write_prometheus(path, {"users": 2}, LABELS)
    with reader:
        assert "llmrec_gone" in reader.read()
    assert gauges(path) == {"llmrec_users": (2.0, LABELS)}
    assert os.listdir(tmp_path) == ["llmrec.prom"]


def test_job_in_the_path_becomes_the_job(tmp_path):
    assert write_prometheus(str(tmp_path / "llmrec_{job}.prom"), {"users": 1}, LABELS) is None
    assert os.listdir(tmp_path) == ["llmrec_score_daily.prom"]


def test_no_gauges_make_an_empty_file(tmp_path):
    assert write_prometheus(tmp_path / "a.prom", {}, LABELS) is None
    assert gauges(tmp_path / "a.prom") == {}


def test_a_file_that_cannot_be_written_is_a_line(tmp_path):
    path = tmp_path / "no" / "a.prom"
    assert write_prometheus(path, {"users": 1}, LABELS) == (
        f"notify.prometheus_file ({path}): cannot be written (No such file or directory), expected a file in a folder "
        "that this user may write to."
    )


def test_a_label_that_cannot_be_is_a_line_and_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.prom"
    write_prometheus(path, {"users": 1}, LABELS)
    assert "cannot be written (ValueError)" in str(write_prometheus(path, {"users": 2}, {"__reserved": "x"}))
    assert gauges(path) == {"llmrec_users": (1.0, LABELS)}
