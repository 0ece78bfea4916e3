"""The README, command by command, in a folder of its own: what it says can be done is done here."""

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest
import yaml

from llmrec_spark.config import Config
from tests.jobs.conftest import PEOPLE, REPOSITORY, Workspace, job_in, make_here

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
OWN_TABLES = "conf/mine.yaml"
PROMPT = ".venv/bin/spark-sql"
SUBMIT = ".venv/bin/spark-submit --properties-file conf/spark-defaults.conf "
PROMOTE = SUBMIT + "jobs/promote_model.py"
CHALLENGER = SUBMIT + "jobs/register_model.py --config conf/sample.yaml"
ADAPT = SUBMIT + "jobs/adapt_encoder.py"
SEARCH = SUBMIT + "jobs/train_model.py --config conf/sample.yaml"
ELSEWHERE = (
    "make score",
    "make test",
    "make ui",
    "make ranklens",
    "make evaluate",
    "make train",
    PROMPT,
    PROMOTE,
    CHALLENGER,
    ADAPT,
    SEARCH,
)  # each has its own test, or is this one


def blocks(language: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


def lines_of(start: str) -> list[str]:
    """The shell commands that begin so."""
    return [line for block in blocks("bash") for line in block.splitlines() if line.startswith(start)]


def recipes() -> str:
    """The Makefile with its variables written out: what its targets run, which have tests of their own.

    A recipe is a line, and jobs that run_jobs runs stand there as if each were submitted alone.
    """
    makefile = re.sub(r"\s*\\\n\s*", " ", (REPOSITORY / "Makefile").read_text(encoding="utf-8"))
    [submit] = re.findall(r"^SUBMIT := (.*)$", makefile, re.M)
    written = {
        "$(SUBMIT)": submit,
        "$(BIN)": ".venv/bin",
        "$(DATE)": "2026-03-01",
        "$$day": "2026-03-01",
        " $(QUIET)": "",
    }
    for name, value in written.items():
        makefile = makefile.replace(name, value)
    return re.sub(rf"{re.escape(SUBMIT)}jobs/run_jobs.py (.*)", lambda found: submitted(found[1]), makefile)


def submitted(jobs: str) -> str:
    """What run_jobs is given, as lines that submit each job alone."""
    return "; ".join(SUBMIT + re.sub(r"^(\w+)", r"jobs/\1.py", one) for one in jobs.split(" then "))


def commands() -> list[str]:
    """The shell commands that have no test of their own."""
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.strip()]
    own = [line for line in lines if not line.startswith((*ELSEWHERE, "export ", "unset "))]
    return [line for line in own if OWN_TABLES not in line and line not in recipes()]


def run_here(workspace: Workspace, command: str) -> tuple[int, str]:
    """Runs a line in this process: that one so begun starts a job is seen of make score, whose recipes begin so."""
    assert f"{SUBMIT}jobs/" in recipes()
    name, *arguments = shlex.split(command.removeprefix(f"{SUBMIT}jobs/"))
    return job_in(workspace, name.removesuffix(".py"), *arguments)


def test_every_make_target_of_the_readme_is_known():
    targets = set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))
    used = {line.split()[1] for block in blocks("bash") for line in block.splitlines() if line.startswith("make ")}
    assert used <= targets


def test_make_score_shows_three_users_with_reasons_in_words(sample):
    _, said = sample
    assert re.search(rf"^published 2026-03-01: [\d,]+ rows for {PEOPLE} users\.$", said, re.M)
    assert said.count("── user ") == 3
    assert re.search(r"clicked “[^”]*[\u4e00-\u9fff]", said)
    assert "cold_start" in said
    assert "because you clicked" in said
    assert "shared words: " in said


def test_make_score_writes_nothing_outside_local(sample):
    workspace, _ = sample
    assert {path.name for path in workspace.folder.iterdir() if not path.is_symlink()} == {"local"}


def test_a_second_make_score_finds_the_day_published(spark, sample):
    workspace, _ = sample
    done = make_here(workspace, "score")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2026-03-01 is published already, by run" in done.stdout
    assert "── user " not in done.stdout


@pytest.mark.parametrize("command", commands())
def test_a_command_of_the_readme_runs(spark, sample, command):
    workspace, _ = sample
    code, said = run_here(workspace, command)
    assert code == 0, said


def test_what_is_said_of_own_tables_is_done_with_those_of_the_sample():
    said = [line for block in blocks("bash") for line in block.splitlines() if OWN_TABLES in line]
    assert len(said) == 5
    for line in said:
        of_sample = line.replace(OWN_TABLES, "conf/sample.yaml")
        assert of_sample in commands() or of_sample in recipes(), line


def test_the_queries_of_the_readme_give_rows_at_its_prompt(sample):
    workspace, _ = sample
    [prompt] = lines_of(PROMPT)
    script = workspace.folder / "local" / "queries.sql"
    script.write_text("SELECT 'end of query';\n".join([*blocks("sql"), ""]), encoding="utf-8")
    done = workspace.run(["bash", "-c", f"{prompt} -f {script}"])
    answers = done.stdout.split("end of query\n")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(answers) == len(blocks("sql")) + 1 == 5
    assert all("\t" in answer for answer in answers[:-1])


@pytest.mark.parametrize("script", blocks("python"))
def test_a_script_of_the_readme_runs(sample, script):
    workspace, _ = sample
    done = workspace.run([sys.executable, "-c", script])
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_cron_line_works_from_an_empty_environment(sample, tmp_path):
    workspace, _ = sample
    [line] = blocks("cron")
    command = line.split(maxsplit=5)[5].replace(r"\%", "%").replace('"$(date -u +%F)"', "2026-03-01")
    command = command.replace(OWN_TABLES, "conf/sample.yaml")
    (tmp_path / "llmrec_spark").symlink_to(workspace.folder)
    java = Path(shutil.which("java") or "").parent
    done = subprocess.run(
        ["env", "-i", f"HOME={tmp_path}", f"PATH={java}:/usr/bin:/bin", "sh", "-c", command],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    log = (workspace.folder / "local" / "score_daily.log").read_text(encoding="utf-8")
    assert done.returncode == 0, done.stderr + log
    assert "2026-03-01 is published already" in log


def test_the_configuration_of_the_readme_is_valid():
    [example] = blocks("yaml")
    assert Config.model_validate(yaml.safe_load(example)).ranking.max_per_user == 20


def test_make_ui_serves_the_runs_of_the_sample(sample):
    workspace, _ = sample
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    around = {**os.environ, "PORT": str(port)}
    server = subprocess.Popen(["make", "ui"], cwd=workspace.folder, env=around, start_new_session=True)
    try:
        for _ in range(60):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2) as answer:
                    assert answer.status == 200
                break
            except OSError:
                time.sleep(1)
        else:
            pytest.fail("no answer within a minute")
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
