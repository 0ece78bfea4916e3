"""The notebooks and a day of the sample that is played and judged, with a challenger, after `make score`."""

import ast
import json
import re
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pandas as pd
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts

from llmrec_spark.config import MlflowConfig
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_encoder import encoder_files
from llmrec_spark.model.encoder_adapter import ADAPTER_FILES
from llmrec_spark.registry import NAME, resolve_model
from llmrec_spark.stored_models import inside
from tests.jobs.conftest import REPOSITORY, Workspace, job_in, make_here
from tests.jobs.test_readme import ADAPT, CHALLENGER, PROMOTE, SEARCH, SUBMIT, lines_of, recipes, run_here, submitted

LEARNS = {"epochs": 1, "warmup_share": 0, "weight_decay": 0, "clip_norm": None, "patience": None}


def outputs(workspace: Workspace, name: str) -> list[dict]:
    """What the cells of a notebook, which is committed without outputs, show in the workspace, by media type."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(workspace.folder)}}).execute()
    return [shown["data"] for cell in notebook.cells for shown in cell.get("outputs", []) if "data" in shown]


def submissions(name: str, names: dict[str, object]) -> list[str]:
    """The jobs that a notebook may submit, as lines of the README, its names having these values."""
    notebook = json.loads((REPOSITORY / "notebooks" / f"{name}.ipynb").read_text(encoding="utf-8"))
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    lines = []
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "submit":
            job, *arguments = (eval(compile(ast.Expression(one), "cell", "eval"), names) for one in node.args)
            lines.append(f"{SUBMIT}jobs/{job}.py --config conf/sample.yaml {' '.join(arguments)}")
    return lines


def test_the_tour_runs_on_the_sample(sample):
    workspace, _ = sample
    assert sum("image/png" in shown for shown in outputs(workspace, "tour")) == 2


@pytest.fixture(scope="module")
def for_few(sample) -> Workspace:
    """The workspace with a conf of its own, that learns from fewer days and judges fewer users."""
    workspace, _ = sample
    conf = workspace.folder / "conf"
    conf.unlink()  # a link to the repository's
    shutil.copytree(REPOSITORY / "conf", conf)
    sample = yaml.safe_load((conf / "sample.yaml").read_text(encoding="utf-8"))
    sample["training"] |= {"train_days": 2, "conversion_days": 1}
    sample["promotion"] |= {"min_users": 30}
    sample["ranker"] |= {"neighbours": "ease", "learning": LEARNS}
    (conf / "sample.yaml").write_text(yaml.safe_dump(sample), encoding="utf-8")
    return workspace


def of_train() -> str:
    """What make train submits."""
    [recipe] = re.findall(r"^train: .*\n((?:\t.*\n)+)", recipes(), re.M)
    return recipe


def store_of(workspace: Workspace) -> MlflowClient:
    return MlflowClient(f"sqlite:///{workspace.folder}/local/sample/mlflow.db")


def test_an_encoder_is_adapted_to_clicks_and_its_adapter_alone_is_stored(for_few):
    """The README's commands, of one field of text: MiniLM becomes the challenger, and learns."""
    [register], [adapt] = lines_of(CHALLENGER), lines_of(ADAPT)
    short = "--set text.fields=[title]"  # to encode the long fields takes many seconds
    assert run_here(for_few, f"{register} {short}")[0] == 0
    code, said = run_here(for_few, f"{adapt} {short} --set adapter.pairs=32")
    assert code == 0, said
    assert re.search(r"^adapted - base: nDCG@10 [+-]0\.\d{4} \[", said, re.M)
    store = store_of(for_few)
    base, adapted = (store.get_model_version_by_alias(NAME, alias) for alias in ("challenger", "adapted"))
    assert store.get_run(adapted.run_id).data.params["adapted_from"] == str(base.version)
    config = MlflowConfig(tracking_uri=f"sqlite:///{for_few.folder}/local/sample/mlflow.db")
    of_base, of_adapted = (
        encoder_files(resolve_model(f"models:/{NAME}/{one.version}", config).folder / "encoder")
        for one in (base, adapted)
    )
    assert of_adapted == sorted([*of_base, *ADAPTER_FILES])
    with pytest.raises(
        ModelError, match=f"versions of {NAME} there: {base.version - 1}, {base.version}, {adapted.version}"
    ):
        resolve_model(f"models:/{NAME}@nobody", config)
    stored = inside(Path(download_artifacts(f"models:/{NAME}/{adapted.version}")))
    assert encoder_files(stored / "encoder") == sorted(ADAPTER_FILES)
    matches = [match_of(f"models:/{NAME}/{one.version}") for one in (base, adapted)]
    assert all(abs(match) < 1 for match in matches)
    assert matches[0] != matches[1]


def match_of(uri: str) -> float:
    """What the model behind a URI says of a pair."""
    import mlflow

    pair = pd.DataFrame({"behaviours": [[{"title": "Trail running shoes"}]], "ad": [{"title": "Road running shoes"}]})
    return float(mlflow.pyfunc.load_model(uri).predict(pair)["match"][0])


@pytest.fixture(scope="module")
def made(spark, for_few) -> subprocess.CompletedProcess[str]:
    """What make train said and how it ended."""
    return make_here(for_few, "train")


@pytest.fixture(scope="module")
def trained(made) -> str:
    """The version it registered."""
    assert made.returncode in (0, 2), made.stdout[-2000:] + made.stderr[-2000:]  # 2: make, of a gate that forbids it
    [version] = re.findall(r"^registered llmrec_ad_matcher version (\d+), trained from model \d+", made.stdout, re.M)
    return version


def test_make_train_learns_scores_judges_and_asks_the_gates(spark, for_few, made, trained):
    assert re.search(r"^trained - rate: nDCG@10 [+-]0\.\d{4} \[", made.stdout, re.M)
    assert re.search(r"^ndcg .*(passed|failed|does not apply)", made.stdout, re.M)
    assert made.returncode == 0 or "does not pass" in made.stdout
    ranked = spark.read.format("delta").load(str(for_few.folder / "local/sample/tables/rankings"))
    of_version = ranked.where(f"model_version = '{trained}'").persist()
    assert of_version.count() > 0
    broken = "p_click IS NULL OR p_conversion IS NULL OR expected_value IS NULL OR NOT p_click BETWEEN 0 AND 1"
    assert of_version.where(broken).count() == 0
    fields = of_version.selectExpr("explode(reasons.field) AS field").distinct().collect()
    assert {"effect", "level", "other", "same category"} <= {row.field for row in fields}
    tables = for_few.folder / "local/sample/tables"
    near = spark.read.format("delta").load(str(tables / "ad_neighbours"))
    assert near.where("size(neighbours) NOT BETWEEN 1 AND 50 OR array_contains(neighbours, ad_id)").count() == 0
    assert near.select("run_id").distinct().count() == 2  # the shadow run and the next day's


def test_make_train_plays_the_day_that_make_score_published_and_judges_it(made, trained):
    assert "2026-03-01 is published already, by run" in made.stdout
    assert re.search(r"^2026-03-01: [\d,]{5,} events answer run [0-9a-f]{16}$", made.stdout, re.M)
    assert re.search(r"^ctr +0\.\d+ \[0\.\d+, 0\.\d+\]$", made.stdout, re.M)
    assert re.search(r"^score - popularity +-?0\.\d+ \[", made.stdout, re.M)


def test_make_evaluate_does_for_each_day_what_make_train_does_for_one(for_few):
    done = for_few.run(["make", "evaluate", "SUBMIT=echo", "DAYS=2026-03-01 2026-03-02"])
    assert done.returncode == 0, done.stderr
    first, second = (line for line in done.stdout.splitlines() if line.startswith("jobs/run_jobs.py "))
    jobs = submitted(first.removeprefix("jobs/run_jobs.py ")).split("; ")
    assert re.findall(r"jobs/(\w+)", str(jobs)) == ["score_daily", "simulate_day", "evaluate_daily"]
    assert all(one in of_train() for one in jobs)
    assert second == first.replace("03-01", "03-02")


def test_the_notebook_of_the_evaluation_has_two_versions_judged_on_the_same_clicks(for_few, challenger):
    """Of the day that make train scored with both; the jobs that the notebook has for who did not run it are known."""
    register, *judge = submissions("evaluation", {"day": date(2026, 3, 1), "shadow": "RUN"})
    assert [register] == lines_of(CHALLENGER)
    assert [line.replace(" RUN", "") in of_train() for line in judge] == [True, True]
    shown = outputs(for_few, "evaluation")
    assert sum("image/png" in one for one in shown) == 3
    words = "\n".join(one.get("text/markdown") or one.get("text/html", "") for one in shown)
    number = r"-?0\.\d{3}"
    assert "version 1, multilingual - version" in words
    assert re.search(rf"<th>ndcg</th>\s*(<td>{number} \[{number}, {number}\]</td>\s*){{3}}</tr>", words)
    assert re.search(rf"^- `language=zh`, nDCG: .+, {number} \[{number}, {number}\]$", words, re.M)


@pytest.fixture(scope="module")
def challenger(for_few, trained) -> str:
    """The version that make train registered, challenger again and no champion, whatever the gates said of it."""
    back = lines_of(PROMOTE)[1]
    store = store_of(for_few)
    if str(store.get_model_version_by_alias(NAME, "champion").version) == trained:
        assert run_here(for_few, back)[0] == 0
    store.set_registered_model_alias(NAME, "challenger", trained)
    return trained


def test_the_challenger_meets_the_gates_and_a_promotion_can_be_rolled_back(for_few, challenger):
    promote, back = lines_of(PROMOTE)
    code, said = run_here(for_few, promote)
    assert code in (0, 77), said
    gates = ("ndcg", "calibration", "coverage", "groups", "seconds/user")
    assert all(re.search(rf"^{gate} .*(passed|failed|does not apply)", said, re.M) for gate in gates)
    assert ("is champion, version 1 was it before" in said) == (code == 0)
    assert run_here(for_few, back)[0] == (0 if code == 0 else 78)


def test_a_search_trains_with_its_best_trial_and_all_of_it_and_of_each_part_is_in_mlflow(for_few):
    reads, searches, ablates = lines_of(SEARCH)
    assert ablates.split()[-1] == "--ablate"
    _, network = reads.split(" --date 2026-03-01 ")
    few = f"{network} --set search.rerank=[[network]] --set ranker.kernel_lists=300"
    code, said = run_here(for_few, f"{searches} --ablate --search 2 --alias searched {few}")
    assert code == 0, said
    [chosen] = re.findall(r"^search: trained with trial (\d), ", said, re.M)
    assert len(re.findall(r"^trial \d +nDCG@10 0\.\d{4}, ", said, re.M)) == 2
    store = store_of(for_few)
    version = store.get_model_version_by_alias(NAME, "searched")
    run = store.get_run(version.run_id)
    experiment = [run.info.experiment_id]
    trials = store.search_runs(experiment, f"tags.`mlflow.parentRunId` = '{version.run_id}'", order_by=["start_time"])
    figures = [one.data.metrics["validation_ndcg_10"] for one in trials]
    assert figures[int(chosen) - 1] == max(figures)
    assert run.data.params["search.chosen"] == chosen
    best = trials[int(chosen) - 1].data.params
    assert run.data.params["ranker.text_rank"] == best["ranker.text_rank"]
    assert run.info.status == "FINISHED"
    card = Path(store.download_artifacts(version.run_id, "model_card.md")).read_text(encoding="utf-8")
    assert f"| {chosen} (chosen) | {max(figures):.4f} |" in card
    for part in (
        "everything",
        "taste: texts",
        "taste: groups",
        "taste: the same people",
        "effect: texts",
        "network: text, not lstm",
    ):
        assert re.search(rf"^\| {part} \| [+-]?\d\.\d{{4}} \[.* \| [\d,]+ \| [\d,]+ \|$", card, re.M), part
        assert run.data.metrics[f"ablation.{re.sub('[:,]', '_', part)}.seconds"] > 0
    assert "ablation.png" in {one.path for one in store.list_artifacts(version.run_id)}
    assert "texts of histories" in said


def test_runs_of_days_that_are_not_kept_are_forgotten_and_what_they_published_is_not(spark, for_few, made):
    """The day that make train published last is published again, from its own tables."""

    def of(table):
        return spark.read.format("delta").load(str(for_few.folder / "local/sample/tables" / table))

    shown = {str(row.run_date): row for row in of("recommendations").dropDuplicates(["run_date"]).collect()}
    days = ["2026-03-01", "2026-03-02"]
    assert sorted(shown) == days
    again = ("--date", days[1], "--model", f"models:/{NAME}/{shown[days[1]].model_version}", "--force")
    code, said = job_in(for_few, "score_daily", "--config", "conf/sample.yaml", *again, "--set", "tables.keep_days=1")
    assert (code, "audited in an earlier try of this run" in said) == (0, True), said
    still = {(str(row.run_date), row.run_id) for row in of("recommendations").select("run_date", "run_id").collect()}
    assert still == {(day, row.run_id) for day, row in shown.items()}
    status = {row.run_id: row.status for row in of("runs").where("job = 'score_daily'").collect()}
    assert status.pop(shown[days[1]].run_id) == "published"
    assert set(status.values()) == {"expired"}
    for table in ("sequences", "ad_texts", "exclusions", "backgrounds", "matches", "rankings"):
        assert {row.run_id for row in of(table).select("run_id").distinct().collect()} <= {shown[days[1]].run_id}
