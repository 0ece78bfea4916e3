"""The notebooks, and three days of the sample of which one is judged, after `make score`."""

import re

from tests.jobs.conftest import REPOSITORY, Workspace
from tests.jobs.test_readme import PROMOTE, blocks


def outputs(workspace: Workspace, name: str) -> list[dict]:
    """What the cells of a notebook, which is committed without outputs, show in the workspace, by media type."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(REPOSITORY / "notebooks" / f"{name}.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=400, resources={"metadata": {"path": str(workspace.folder)}}).execute()
    return [shown["data"] for cell in notebook.cells for shown in cell.get("outputs", []) if "data" in shown]


def test_the_tour_runs_on_the_sample(sample):
    workspace, _ = sample
    assert sum("image/png" in shown for shown in outputs(workspace, "tour")) == 2


def test_make_evaluate_plays_a_day_and_judges_it(sample):
    workspace, _ = sample
    done = workspace.run(["make", "evaluate", "DAYS=2026-03-01"])
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert re.search(r"^2026-03-01: [\d,]{5,} events answer run [0-9a-f]{16}$", done.stdout, re.M)
    assert re.search(r"^ctr +0\.\d+ \[0\.\d+, 0\.\d+\]$", done.stdout, re.M)
    assert re.search(r"^score - popularity +-?0\.\d+ \[", done.stdout, re.M)


def test_the_notebook_of_the_evaluation_has_two_versions_judged_on_the_same_clicks(sample):  # needs the day judged
    workspace, _ = sample
    shown = outputs(workspace, "evaluation")
    assert sum("image/png" in one for one in shown) == 3
    words = "\n".join(one.get("text/markdown") or one.get("text/html", "") for one in shown)
    number = r"-?0\.\d{3}"
    assert re.search(rf"<th>ndcg</th>\s*(<td>{number} \[{number}, {number}\]</td>\s*){{3}}</tr>", words)
    assert re.search(rf"^- `language=zh`, nDCG: .+, {number} \[{number}, {number}\]$", words, re.M)


def test_the_challenger_meets_the_gates_and_a_promotion_can_be_rolled_back(sample):  # needs both judged
    workspace, _ = sample
    promote, back = [line for block in blocks("bash") for line in block.splitlines() if line.startswith(PROMOTE)]
    done = workspace.run(["bash", "-c", promote])
    assert done.returncode in (0, 77), done.stdout[-2000:] + done.stderr[-2000:]
    gates = ("ndcg", "calibration", "coverage", "groups", "seconds/user")
    assert all(re.search(rf"^{gate} .*(passed|failed|does not apply)", done.stdout, re.M) for gate in gates)
    assert ("is champion, version 1 was it before" in done.stdout) == (done.returncode == 0)
    assert workspace.run(["bash", "-c", back]).returncode == (0 if done.returncode == 0 else 78)
