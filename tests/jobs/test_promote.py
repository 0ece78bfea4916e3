"""A challenger becomes champion or does not: a real MLflow store, and rows as scoring and evaluation write them."""

import shutil

import mlflow
import pytest
import yaml

from llmrec_spark import model_versions
from llmrec_spark.config import MlflowConfig, TablesConfig
from llmrec_spark.errors import ModelError, UsageError
from llmrec_spark.evaluation_tables import EVALUATIONS
from llmrec_spark.model_versions import set_alias, step_back
from llmrec_spark.registry import NAME, aliases_of_new, register_model
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RUNS
from tests.compared_rows import judged, run_row
from tests.jobs.conftest import job, write_conf


@pytest.fixture
def client(empty_registry, tmp_path):
    """A store of this test's own with three versions of one model."""
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    client = mlflow.MlflowClient(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")
    client.create_registered_model(NAME)
    for number in (1, 2, 3):
        run = client.create_run("0")
        client.log_param(run.info.run_id, "model_digest", f"digest {number}")
        client.create_model_version(NAME, (tmp_path / "model").as_uri(), run.info.run_id)
    return client


def champion(client):
    return str(client.get_model_version_by_alias(NAME, "champion").version)


def tags(client, number):
    return client.get_model_version(NAME, str(number)).tags


def made_champion(client, *numbers):
    for number in numbers:
        set_alias(client, NAME, "champion", str(number))


def test_a_new_champion_remembers_those_before_it(client):
    made_champion(client, 1, 2, 3)
    assert [tags(client, number)["replaced_versions"] for number in (1, 2, 3)] == ["none", "1", "2 1"]
    assert tags(client, 3)["promoted_at"].endswith("+00:00")


def test_to_make_the_champion_champion_changes_nothing(client):
    made_champion(client, 1, 2)
    before = tags(client, 2)
    made_champion(client, 2)
    assert (champion(client), tags(client, 2)) == ("2", before)


def test_rollbacks_go_back_through_the_history_though_a_version_was_champion_twice(client):
    made_champion(client, 1, 2, 1, 3)
    assert [step_back(client, NAME) for _ in range(3)] == [("3", "1"), ("1", "2"), ("2", "1")]
    assert champion(client) == "1"
    assert "rolled_back_at" in tags(client, 3)
    with pytest.raises(ModelError, match="version 1 is champion, and its tag replaced_versions names no version"):
        step_back(client, NAME)
    assert champion(client) == "1"


def test_a_version_that_is_gone_is_passed_over(client):
    made_champion(client, 1, 2, 3)
    client.delete_model_version(NAME, "2")
    assert step_back(client, NAME) == ("3", "1")


def test_without_a_champion_there_is_nothing_to_roll_back(client):
    with pytest.raises(ModelError, match="has no alias champion to roll back"):
        step_back(client, NAME)


def test_another_alias_has_no_history(client):
    set_alias(client, NAME, "challenger", "2")
    assert tags(client, 2) == {}


@pytest.mark.parametrize(
    "uri, error, says",
    [
        (f"models:/{NAME}@challenger", ModelError, "versions of llmrec_ad_matcher there: 1, 2, 3. Register one with"),
        (f"models:/{NAME}/4", ModelError, "is not in the registry"),
        ("models:/nobody@challenger", ModelError, "versions of nobody there: none"),
        (f"models:/{NAME}@champion", UsageError, "version 1 is the champion already"),
        (f"models:/{NAME}/1", UsageError, "version 1 is the champion already"),
        ("local/model", UsageError, "only a registered version can be champion"),
        (f"models:/{NAME}", UsageError, "only a registered version can be champion"),
    ],
)
def test_a_model_that_cannot_be_promoted_is_refused(client, uri, error, says):
    made_champion(client, 1)
    with pytest.raises(error) as caught:
        model_versions.open_contest(client, uri)
    assert says in str(caught.value)


def test_a_contest_is_between_a_version_and_the_champion_by_their_digests(client):
    assert model_versions.open_contest(client, f"models:/{NAME}/2").champion is None
    made_champion(client, 1)
    found = model_versions.open_contest(client, f"models:/{NAME}/2")
    assert (found.challenger.number, found.challenger.digest) == ("2", "digest 2")
    assert (found.champion.number, found.champion.digest) == ("1", "digest 1")


def test_a_registered_champion_remembers_whom_it_replaced(client, tmp_path):
    made_champion(client, 1)
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}", encoding="utf-8")
    config = MlflowConfig(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db", artifact_root=str(tmp_path / "art"))
    version = register_model(tmp_path / "model", config, {"model_digest": "d"}, aliases=("champion",))
    assert (version, champion(client), tags(client, 4)["replaced_versions"]) == ("4", "4", "1")
    assert model_versions.open_contest(client, f"models:/{NAME}/1").champion.digest == "d"


def test_the_first_version_is_champion_and_any_other_challenger_until_it_was_judged(client, empty_registry, tmp_path):
    (tmp_path / "empty").mkdir()
    shutil.copy(empty_registry, tmp_path / "empty" / "mlflow.db")
    empty, full = (MlflowConfig(tracking_uri=f"sqlite:///{at}/mlflow.db") for at in (tmp_path / "empty", tmp_path))
    assert aliases_of_new(empty, None) == aliases_of_new(full, None) == ("champion",)
    made_champion(client, 1)
    assert aliases_of_new(full, None) == ("challenger",)
    assert (aliases_of_new(full, "shadowed"), aliases_of_new(full, "")) == (("shadowed",), ())


@pytest.fixture
def conf(spark, client, tmp_path):
    """Version 1 is champion, 2 the challenger; day 1 judged both, and the challenger lost nothing but coverage."""
    path = write_conf(tmp_path, tmp_path / "conf.yaml", promotion={"min_users": 40, "max_group_loss": 0.1})
    storage = Storage(spark, TablesConfig(**yaml.safe_load((tmp_path / "conf.yaml").read_text())["tables"]))
    runs = [run_row("c1", 1, "1"), run_row("s1", 1, "2", status="shadow")]
    evaluated = judged("c1", 1, "2026-03-02 06:00", beside="s1")
    for table, rows in ((RUNS, runs), (EVALUATIONS, evaluated)):
        storage.create(table)
        spark.createDataFrame(rows, table.ddl).writeTo(storage.where(table)).append()
    made_champion(client, 1)
    set_alias(client, NAME, "challenger", "2")
    return path


def test_a_challenger_that_fails_a_gate_changes_nothing_and_one_that_passes_them_is_champion(client, conf):
    code, said = job("promote_model", "--config", conf)
    assert code == 77, said
    assert "GateError: version 2 of llmrec_ad_matcher does not pass: calibration, coverage. Version 1 stays" in said
    assert (champion(client), tags(client, 2)) == ("1", {})
    assert str(client.get_model_version_by_alias(NAME, "challenger").version) == "2"

    wide = ("--set", "promotion.max_calibration_rise=0.01", "--set", "promotion.max_coverage_loss=0.1")
    code, said = job("promote_model", "--config", conf, *wide)
    assert code == 0, said
    assert "ndcg" in said
    assert "version 2 is champion, version 1 was it before, and it is no longer challenger." in said
    assert client.get_registered_model(NAME).aliases == {"champion": 2}
    kept = tags(client, 2)
    assert kept["replaced_versions"] == "1"
    tracked = client.get_run(kept["promotion_run"])
    assert (tracked.data.metrics["ndcg.low"], tracked.data.metrics["coverage.difference"]) == (0.05, -0.1)
    assert (tracked.data.tags["champion_run"], tracked.data.tags["replaced_version"]) == ("c1", "1")
    assert {"ndcg.passed", "groups.passed", "seconds_per_user.passed"} <= set(tracked.data.metrics)

    code, said = job("promote_model", "--config", conf, "--rollback")
    assert (code, "version 1 is champion again, in place of version 2." in said) == (0, True)
    assert champion(client) == "1"
    code, said = job("promote_model", "--config", conf, "--rollback")
    assert (code, "names no version before it" in said) == (78, True)


def test_force_promotes_what_nobody_judged_and_says_so(client, conf):
    code, said = job("promote_model", "--config", conf, "--date", "2026-03-02")
    assert (code, "2026-03-02: was not published by the champion, version 1" in said) == (65, True)
    code, said = job("promote_model", "--config", conf, "--date", "2026-03-02", "--force")
    assert (code, champion(client)) == (0, "2"), said
    assert "WARNING forced without a comparison: 2026-03-02: was not published" in said
    tracked = client.get_run(tags(client, 2)["promotion_run"])
    assert (tracked.data.tags["forced"], tracked.data.tags["replaced_version"]) == ("True", "1")


def test_a_rollback_takes_no_model():
    code, said = job("promote_model", "--config", "any.yaml", "--rollback", "--force")
    assert (code, "--rollback goes with --config and --set only" in said) == (2, True)
