"""The notebooks and a day of the sample that is played and judged, with a challenger, after `make score`."""

import ast
import re
import shutil
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path

import pytest
import yaml
from mlflow import MlflowClient

from tests.jobs.conftest import REPOSITORY, Workspace, job_in, make_here
from tests.jobs.test_readme import CHALLENGER, PROMOTE, SEARCH, lines_of, run_here

PEOPLE = 200  # of the sample's 2,000: what a day takes grows with its events


@pytest.fixture(scope="module")
def of_few(spark, sample) -> Workspace:
    """The workspace with the log of fewer people, whose day is not published yet; models and vectors are kept."""
    workspace, _ = sample
    inputs = workspace.folder / "local" / "sample"
    for name in ("users", "events"):
        rows = spark.read.format("delta").load(str(inputs / name)).where(f"user_id <= 'u{PEOPLE:05}'")
        rows.write.format("delta").mode("overwrite").save(str(inputs / name))
    for table in (inputs / "tables").iterdir():
        if table.name != "text_vectors":
            shutil.rmtree(table)
    return workspace


def outputs(workspace: Workspace, name: str, before: Callable[[str], None] = lambda source: None) -> list[dict]:
    """What the cells of a notebook, which is committed without outputs, show in the workspace, by media type.

    `before` is called with the source of each cell of code before it is executed.
    """
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    client = NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(workspace.folder)}})
    with client.setup_kernel():
        for place, cell in enumerate(notebook.cells):
            if cell.cell_type == "code":
                before(cell.source)
                client.execute_cell(cell, place)
    return [shown["data"] for cell in notebook.cells for shown in cell.get("outputs", []) if "data" in shown]


def submissions(source: str, names: dict[str, object]) -> Iterator[list[str]]:
    """The arguments of each call of submit() in a cell, its names having these values."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "submit":
            yield [eval(compile(ast.Expression(one), "cell", "eval"), names) for one in node.args]


def test_the_tour_runs_on_the_sample(sample):
    workspace, _ = sample
    assert sum("image/png" in shown for shown in outputs(workspace, "tour")) == 2


def test_make_evaluate_publishes_a_day_plays_it_and_judges_it(of_few):
    done = make_here(of_few, "evaluate", "DAYS=2026-03-01")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(rf"^published 2026-03-01: [\d,]+ rows for {PEOPLE} users\.$", done.stdout, re.M)
    assert re.search(r"^2026-03-01: [\d,]{5,} events answer run [0-9a-f]{16}$", done.stdout, re.M)
    assert re.search(r"^ctr +0\.\d+ \[0\.\d+, 0\.\d+\]$", done.stdout, re.M)
    assert re.search(r"^score - popularity +-?0\.\d+ \[", done.stdout, re.M)


def test_the_notebook_of_the_evaluation_has_two_versions_judged_on_the_same_clicks(spark, of_few):  # needs a judged day
    """It registers the challenger, by the README's command; its longer jobs are done here, by its own arguments."""
    submitted = []

    def in_its_place(source):
        names = {"day": date(2026, 3, 1), "shadow": shadow_run(spark, of_few)}
        for name, *arguments in submissions(source, names):
            submitted.append(name)
            if name == "register_model":
                assert [f"{CHALLENGER} {' '.join(arguments)}"] == lines_of(CHALLENGER)
            else:
                code, said = job_in(of_few, name, "--config", "conf/sample.yaml", *arguments)
                assert code == 0, said

    shown = outputs(of_few, "evaluation", in_its_place)
    assert submitted == ["register_model", "score_daily", "evaluate_daily"]
    assert sum("image/png" in one for one in shown) == 3
    words = "\n".join(one.get("text/markdown") or one.get("text/html", "") for one in shown)
    number = r"-?0\.\d{3}"
    assert re.search(rf"<th>ndcg</th>\s*(<td>{number} \[{number}, {number}\]</td>\s*){{3}}</tr>", words)
    assert re.search(rf"^- `language=zh`, nDCG: .+, {number} \[{number}, {number}\]$", words, re.M)


def shadow_run(spark, workspace: Workspace) -> str | None:
    """The run_id of the shadow run, once there is one."""
    runs = spark.read.format("delta").load(str(workspace.folder / "local/sample/tables/runs"))
    found = runs.where("status = 'shadow'").first()
    return found and found.run_id


def test_the_challenger_meets_the_gates_and_a_promotion_can_be_rolled_back(spark, of_few):  # needs both judged
    promote, back = lines_of(PROMOTE)
    code, said = run_here(of_few, f"{promote} --set promotion.min_users=10")
    assert code in (0, 77), said
    gates = ("ndcg", "calibration", "coverage", "groups", "seconds/user")
    assert all(re.search(rf"^{gate} .*(passed|failed|does not apply)", said, re.M) for gate in gates)
    assert ("is champion, version 1 was it before" in said) == (code == 0)
    assert run_here(of_few, back)[0] == (0 if code == 0 else 78)


@pytest.fixture(scope="module")
def for_few(of_few) -> Workspace:
    """The workspace with a conf of its own, that learns from fewer days and judges fewer users."""
    conf = of_few.folder / "conf"
    conf.unlink()  # a link to the repository's
    shutil.copytree(REPOSITORY / "conf", conf)
    sample = yaml.safe_load((conf / "sample.yaml").read_text(encoding="utf-8"))
    sample["training"] |= {"train_days": 2, "conversion_days": 1}
    sample["promotion"] |= {"min_users": 10}
    (conf / "sample.yaml").write_text(yaml.safe_dump(sample), encoding="utf-8")
    return of_few


def test_a_search_trains_with_its_best_trial_and_all_of_it_and_of_each_part_is_in_mlflow(for_few):
    searches, ablates = lines_of(SEARCH)
    assert ablates.split()[-1] == "--ablate"
    code, said = run_here(for_few, f"{searches} --ablate --search 2 --alias searched --set search.rerank=[[],[linear]]")
    assert code == 0, said
    [chosen] = re.findall(r"^search: trained with trial (\d), ", said, re.M)
    assert len(re.findall(r"^trial \d +nDCG@10 0\.\d{4}, ", said, re.M)) == 2
    store = MlflowClient(f"sqlite:///{for_few.folder}/local/sample/mlflow.db")
    version = store.get_model_version_by_alias("llmrec_ad_matcher", "searched")
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
    for part in ("everything", "taste: texts", "taste: groups", "effect: texts", "positions"):
        assert re.search(rf"^\| {part} \| [+-]?\d\.\d{{4}} \[.* \| [\d,]+ \| [\d,]+ \|$", card, re.M), part
        assert run.data.metrics[f"ablation.{part.replace(':', '_')}.seconds"] > 0
    assert "ablation.png" in {one.path for one in store.list_artifacts(version.run_id)}


def test_make_train_learns_scores_judges_and_asks_the_gates(spark, for_few):
    done = make_here(for_few, "train")
    assert done.returncode in (0, 2), done.stdout[-2000:] + done.stderr[-2000:]  # 2: make, of a gate that forbids it
    assert re.search(r"^trained - rate: nDCG@10 [+-]0\.\d{4} \[", done.stdout, re.M)
    [version] = re.findall(r"^registered llmrec_ad_matcher version (\d+), trained from model \d+", done.stdout, re.M)
    assert re.search(r"^ndcg .*(passed|failed|does not apply)", done.stdout, re.M)
    assert done.returncode == 0 or "does not pass" in done.stdout
    ranked = spark.read.format("delta").load(str(for_few.folder / "local/sample/tables/rankings"))
    trained = ranked.where(f"model_version = '{version}'").persist()
    assert trained.count() > 0
    broken = "p_click IS NULL OR p_conversion IS NULL OR expected_value IS NULL OR NOT p_click BETWEEN 0 AND 1"
    assert trained.where(broken).count() == 0
    fields = trained.selectExpr("explode(reasons.field) AS field").distinct().collect()
    assert {"effect", "level", "other", "same category"} <= {row.field for row in fields}
