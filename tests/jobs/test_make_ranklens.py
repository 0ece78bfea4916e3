"""`make ranklens` on real people, where the data set is beside the checkout."""

import re

import pytest

from tests.conftest import SHARED_DATA
from tests.jobs.conftest import REPOSITORY, Workspace

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
RANKLENS = SHARED_DATA / "ranklens"


@pytest.mark.skipif(not RANKLENS.is_dir(), reason="RankLens is not beside the checkout (../shared/data/ranklens)")
def test_make_ranklens_prints_the_figures_of_the_readme(tmp_path):
    done = Workspace(tmp_path).run(["make", "ranklens", f"FROM={RANKLENS}"])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    known = done.stdout[done.stdout.index("user=known: ") :]  # who was met before the day
    cell = r" +(0\.\d+) \[0\.\d+, 0\.\d+\]"
    rows = re.findall(rf"^(\w+){cell * 4}$", known, re.M)
    found = {name: (float(ndcg), float(auc)) for name, ndcg, _, _, auc in rows}
    assert known.startswith("user=known: 1,452 users")
    assert found["match"][0] >= 0.45
    assert found["score"][0] >= 0.61
    said = dict(re.findall(r"^\| \**(\w+)[^|]*\| \**(\.\d+)\** \|", README, re.M))
    for name in ("random", "rate", "match", "score"):
        assert found[name][0] == pytest.approx(float(said[name]), abs=0.002)
    assert re.search(r"^score - rate +0\.02\d+ \[0\.01", known, re.M)  # what the match adds to the rate
