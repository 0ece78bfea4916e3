import pytest
from prometheus_client.parser import text_string_to_metric_families

from llmrec_spark.config import NotifyConfig, TablesConfig
from llmrec_spark.errors import DataError
from llmrec_spark.run_notices import export, told
from llmrec_spark.runs import Run
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RANKINGS, RECOMMENDATIONS
from tests.loopback import serving
from tests.spark.rows import DAY

INPUTS = {"events": "main.logs.events", "ads": "/data/ads"}
VERSIONS = {"events": "0f0f@3", "ads": "1a1a@0"}


@pytest.fixture
def storage(tmp_path):
    """Names tables only, so it needs no session."""
    return Storage(None, TablesConfig(root=str(tmp_path)))


@pytest.fixture
def run(storage):
    return Run(storage, "3fa1", "score_daily", DAY, "7", "m", "c", VERSIONS)


def ended(storage, run, body):
    """What OpenLineage got of a run that does `body`."""
    with serving(status=201) as server:
        config = NotifyConfig(openlineage_url=f"http://{server.place}")
        try:
            with told(storage, config, run, INPUTS) as written:
                body(written)
        except Exception:
            pass
    return [event for _, _, event in server.seen]


def test_a_run_that_succeeds_is_started_and_completed_with_what_it_wrote(storage, run, tmp_path):
    started, completed = ended(storage, run, lambda written: written.extend([RANKINGS, RECOMMENDATIONS]))
    assert (started["eventType"], completed["eventType"]) == ("START", "COMPLETE")
    assert started["run"]["runId"] == completed["run"]["runId"]
    assert started["outputs"] == []
    assert [one["name"] for one in completed["outputs"]] == [
        f"{tmp_path}/rankings",
        f"{tmp_path}/recommendations",
    ]
    for event in (started, completed):
        versions = {one["name"]: one["facets"]["version"]["datasetVersion"] for one in event["inputs"]}
        assert versions == {"main.logs.events": "0f0f@3", "/data/ads": "1a1a@0"}


@pytest.mark.parametrize(
    "error, message",
    [
        (DataError("ads: 3 of 9 rows refused."), "DataError: ads: 3 of 9 rows refused."),
        (KeyError("u00002"), "KeyError"),
    ],
)
def test_a_run_that_fails_says_its_own_errors_and_of_others_the_kind(storage, run, error, message):
    def fail(_):
        raise error

    _, failed = ended(storage, run, fail)
    assert failed["eventType"] == "FAIL"
    assert failed["run"]["facets"]["errorMessage"]["message"] == message


def test_an_error_goes_on_after_it_was_told(storage, run):
    with pytest.raises(DataError), told(storage, NotifyConfig(), run, INPUTS):
        raise DataError("no rows")


def test_a_server_that_fails_is_a_warning_and_the_run_goes_on(storage, run, capsys):
    with serving(status=500) as server:
        config = NotifyConfig(openlineage_url=f"http://{server.place}")
        with told(storage, config, run, INPUTS) as written:
            written.append(RANKINGS)
    assert [line.split(" (")[0] for line in capsys.readouterr().out.splitlines()] == [
        "  WARNING notify.openlineage_url"
    ] * 2


@pytest.mark.parametrize("status, failed", [("published", 0.0), ("failed", 1.0), ("refused", 1.0)])
def test_prometheus_has_counts_seconds_figures_the_day_and_whether_it_failed(run, tmp_path, status, failed):
    run.counts, run.seconds, run.status = {"users": 2000}, {"matches": 1.5}, status
    export(NotifyConfig(prometheus_file=str(tmp_path / "{job}.prom")), run, {"drift.ks.score": 0.25})
    text = (tmp_path / "score_daily.prom").read_text(encoding="utf-8")
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    assert {sample.name: sample.value for sample in samples} == {
        "llmrec_users": 2000.0,
        "llmrec_drift_ks_score": 0.25,
        "llmrec_matches_seconds": 1.5,
        "llmrec_run_failed": failed,
        "llmrec_run_date_timestamp_seconds": 86_400.0 * (DAY.toordinal() - 719_163),
    }
    assert {tuple(sample.labels.items()) for sample in samples} == {(("job", "score_daily"), ("model_version", "7"))}


def test_a_file_that_cannot_be_written_is_a_warning(run, tmp_path, capsys):
    export(NotifyConfig(prometheus_file=str(tmp_path / "no" / "a.prom")), run)
    assert capsys.readouterr().out.startswith("  WARNING notify.prometheus_file")
