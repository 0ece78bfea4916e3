"""Jobs as a user starts them: spark-submit in a folder of their own, with the checkout's files linked into it.

Or in the process and on the session of the tests, where the start of a Java machine is not what is tested.
"""

import contextlib
import io
import json
import os
import runpy
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

REPOSITORY = Path(__file__).parents[2]
GOLDEN = Path(__file__).parent / "golden"
BIN = Path(sys.executable).parent
LINKED = (
    "conf",
    "jobs",
    "data",
    "Makefile",
    "pyproject.toml",
    "constraints.txt",
    "README.md",
    "llmrec_spark",
    "notebooks",
)
DAY = ("--date", "2026-03-01")
PEOPLE = 200  # of the sample's 2,000: what a day takes grows with its events
EVENTS = (
    "event_id string, user_id string, ad_id string, event_type string, event_ts timestamp, request_id string, "
    "position int, query string"
)
ADS = "ad_id string, title string, description string, tags array<string>, category string, advertiser_id string"


class Workspace:
    """A folder to run jobs in; what they write under local/ stays there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in LINKED:
            if (REPOSITORY / name).exists():
                (folder / name).symlink_to(REPOSITORY / name)
        (folder / "golden.yaml").symlink_to(GOLDEN / "conf.yaml")
        (folder / ".venv").symlink_to(BIN.parent)

    def submit(self, job: str, *arguments: str, conf: dict[str, str] | None = None, env: dict[str, str] | None = None):
        """Runs jobs/<job>.py through spark-submit; returns the finished process, stdout and stderr as text."""
        return self.run(submission(job, *arguments, conf=conf), env=env)

    def start(self, job: str, *arguments: str, conf: dict[str, str] | None = None) -> subprocess.Popen[str]:
        """Starts jobs/<job>.py through spark-submit, in a process group of its own; stdout and stderr are one."""
        return subprocess.Popen(
            submission(job, *arguments, conf=conf),
            cwd=self.folder,
            env=around(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, command: list[str], *, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        """Runs any command in the folder."""
        return subprocess.run(
            command, cwd=self.folder, env=around(env), capture_output=True, text=True, timeout=900, check=False
        )


def submission(job: str, *arguments: str, conf: dict[str, str] | None = None) -> list[str]:
    """The command that runs jobs/<job>.py."""
    confs = [part for key, value in (conf or {}).items() for part in ("--conf", f"{key}={value}")]
    command = [BIN / "spark-submit", "--properties-file", "conf/spark-defaults.conf", *confs, f"jobs/{job}.py"]
    return [*map(str, command), *arguments]


def around(env: dict[str, str] | None = None) -> dict[str, str]:
    """The environment of a job."""
    return {**os.environ, "PYSPARK_PYTHON": sys.executable, "PYTHONWARNINGS": "ignore", **(env or {})}


def golden_rows(name: str) -> list[dict]:
    """The rows of a golden file."""
    return [json.loads(line) for line in (GOLDEN / name).read_text(encoding="utf-8").splitlines()]


def write_golden(spark, folder: Path, *, shuffled: bool = False) -> None:
    """The golden events and ads as Delta tables.

    `shuffled`: rows in another order and in other files, every event twice, and all of them again after the day.
    """
    from pyspark.sql import functions as F

    events = spark.createDataFrame(golden_rows("events.jsonl"), EVENTS.replace("event_ts timestamp", "event_ts string"))
    events = events.withColumn("event_ts", F.to_timestamp("event_ts"))
    ads = spark.createDataFrame(golden_rows("ads.jsonl"), ADS)
    if shuffled:
        after = {"event_id": F.concat(F.lit("later-"), "event_id"), "event_ts": F.col("event_ts") + timedelta(days=60)}
        events = events.union(events).union(events.withColumns(after))
        events, ads = events.orderBy(F.rand(7)).repartition(3), ads.orderBy(F.rand(7)).repartition(2)
    for name, rows in (("events", events), ("ads", ads)):
        rows.write.format("delta").mode("overwrite").save(str(folder / "local" / "golden" / name))


@pytest.fixture(scope="module")
def sample(spark, tmp_path_factory):
    """A workspace of this file in which `make score` has run, of few people, and what it said: it runs once for all.

    Jobs that are run in this process find the session of the tests there.
    """
    first, said = shared_folder(tmp_path_factory) / "sample", shared_folder(tmp_path_factory) / "sample.txt"
    with FileLock(first.with_suffix(".lock")):
        if not said.exists():
            first.mkdir()
            done = Workspace(first).run(["make", "score", f"USERS={PEOPLE}"])
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            said.write_text(done.stdout, encoding="utf-8")
    workspace = Workspace(tmp_path_factory.mktemp("sample"))
    shutil.copytree(first / "local", workspace.folder / "local")
    return workspace, said.read_text(encoding="utf-8")


def shared_folder(tmp_path_factory) -> Path:
    """A folder that all processes of this run of the tests have."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def golden(spark, empty_registry, tmp_path_factory) -> Workspace:
    """A workspace with the golden tables and a registered multilingual model."""
    workspace = Workspace(tmp_path_factory.mktemp("golden"))
    write_golden(spark, workspace.folder)
    shutil.copy(empty_registry, workspace.folder / "local" / "golden" / "mlflow.db")
    with contextlib.chdir(workspace.folder):
        code, said = job("register_model", "--config", "golden.yaml")
    assert code == 0, said
    return workspace


@pytest.fixture(scope="session")
def tables(spark, tmp_path_factory):
    """A folder with the golden tables."""
    folder = tmp_path_factory.mktemp("tables")
    write_golden(spark, folder)
    return folder


@pytest.fixture(scope="session")
def empty_registry(tmp_path_factory) -> Path:
    """An MLflow store without runs: making its tables takes seconds, copying the file none. One for all processes."""
    import mlflow

    shared = shared_folder(tmp_path_factory)
    with FileLock(shared / "registry.lock"):
        if not (shared / "mlflow.db").exists():
            mlflow.MlflowClient(tracking_uri=f"sqlite:///{shared}/mlflow.db").search_experiments()
    return shared / "mlflow.db"


@pytest.fixture(scope="session")
def model_folder(spark, tables, empty_registry, tmp_path_factory):
    """A MiniLM model of the golden ads, as a folder; of several test processes the first one makes it."""
    shared = shared_folder(tmp_path_factory)
    folder = shared / "minilm"
    with FileLock(shared / "minilm.lock"):
        if not folder.exists():
            own = tmp_path_factory.mktemp("model")
            shutil.copy(empty_registry, own / "mlflow.db")
            conf = write_conf(tables, own / "conf.yaml")
            code, said = job("register_model", "--config", conf, "--embedded", "minilm", "--folder", folder)
            assert code == 0, said
    return folder


@pytest.fixture(scope="session")
def reading(model_folder, tmp_path_factory):
    """The MiniLM model with a network that learned to read histories as texts, from other ads."""
    import numpy as np

    from llmrec_spark.model.checkpoint import open_model, write_trained_model
    from llmrec_spark.network_config import NetworkConfig, TrainingSettings
    from llmrec_spark.ranker_config import RankerConfig
    from tests.model.catalogues import simple_world
    from tests.model.two_kinds import learn_kinds

    rng, model = np.random.default_rng(3), open_model(model_folder).config
    vectors = rng.normal(size=(12, len(model.fields), model.width)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    ads = {f"ad{n:02d}": dict(zip(model.fields, of_ad, strict=True)) for n, of_ad in enumerate(vectors)}
    network = {"network": NetworkConfig(behaviours="text"), "learning": TrainingSettings(epochs=1)}
    settings = RankerConfig(rerank=("network",), groups=(), text_rank=4, kernel_lists=160, **network)
    world, folder = simple_world(ads, fields=model.fields), tmp_path_factory.mktemp("reading") / "model"
    write_trained_model(
        folder, model_folder, partial(learn_kinds, world, settings), settings=settings, conversion_days=7, card=""
    )
    return folder


def write_conf(folder, path, **changes) -> str:
    """The golden configuration over the tables of `folder`, with changes of whole sections."""
    values = yaml.safe_load((GOLDEN / "conf.yaml").read_text(encoding="utf-8"))
    values["inputs"] = {name: {"path": str(folder / "local" / "golden" / name)} for name in ("events", "ads")}
    values["tables"] = {"root": str(path.parent / "own")}
    values["mlflow"] = {"tracking_uri": f"sqlite:///{path.parent}/mlflow.db", "artifact_root": str(path.parent / "art")}
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return str(path)


def job(name: str, *arguments: object) -> tuple[int, str]:
    """Exit code and what jobs/<name>.py printed, run in this process."""
    said = io.StringIO()
    before, sys.argv = sys.argv, [f"jobs/{name}.py", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            runpy.run_path(str(REPOSITORY / "jobs" / f"{name}.py"), run_name="__main__")
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        return (0 if end.code is None else code), said.getvalue()
    finally:
        sys.argv = before
    return 0, said.getvalue()


def job_in(workspace: Workspace, name: str, *arguments: object) -> tuple[int, str]:
    """`job` in a workspace, with an MLflow store named by its whole path: MLflow knows a store by its path alone."""
    data = Path(arguments[arguments.index("--config") + 1]).stem
    store = f"mlflow.tracking_uri=sqlite:///{workspace.folder}/local/{data}/mlflow.db"
    with contextlib.chdir(workspace.folder):
        return job(name, *arguments, "--set", store)


def make_here(workspace: Workspace, target: str, *variables: str) -> subprocess.CompletedProcess[str]:
    """`make TARGET` in a workspace; each job that it submits runs in this process, one after the other.

    That make's own SUBMIT starts jobs is seen of make score.
    """
    place = tempfile.mkdtemp(prefix="make")  # not in the workspace: a socket's path is short
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{place}/socket")
    server.listen()
    done = threading.Thread(target=_serve, args=(server, workspace), daemon=True)
    done.start()
    try:
        client = f"SUBMIT={sys.executable} -S {Path(__file__).parent / 'submit_here.py'} {place}/socket"
        return workspace.run(["make", target, client, *variables])
    finally:
        server.shutdown(socket.SHUT_RDWR)  # wakes who waits for a job
        done.join()
        server.close()
        shutil.rmtree(place)


def _serve(server: socket.socket, workspace: Workspace) -> None:
    """Runs what each client asks for, until the socket is shut."""
    while True:
        try:
            client, _ = server.accept()
        except OSError:
            return
        with client, client.makefile("rw", encoding="utf-8") as line:
            file, *arguments = json.loads(line.readline())
            code, said = 0, ""
            for name, *own in jobs_of(Path(file).stem, arguments):
                code, more = job_in(workspace, name, *own)
                said += more
                if code:
                    break
            print(json.dumps({"code": code, "said": said}), file=line, flush=True)


def jobs_of(name: str, arguments: list[str]) -> list[list[str]]:
    """What is submitted, job by job: run_jobs runs several."""
    asked = [[] if name == "run_jobs" else [name]]
    for argument in arguments:
        asked = [*asked, []] if argument == "then" else [*asked[:-1], [*asked[-1], argument]]
    return asked


def own(spark, folder, table):
    """A table of ours under the configuration in `folder`."""
    return spark.read.format("delta").load(str(folder / "own" / table))


@pytest.fixture
def conf(tables, empty_registry, tmp_path):
    """A configuration of this test's own tables and MLflow store."""
    shutil.copy(empty_registry, tmp_path / "mlflow.db")
    return write_conf(tables, tmp_path / "conf.yaml")
