"""`make ranklens` on real people, where the data set is beside the checkout: on the last lists of a few of them."""

import re
import shutil

import pandas as pd
import pytest

from tests.conftest import SHARED_DATA
from tests.jobs.conftest import Workspace, make_here

RANKLENS = SHARED_DATA / "ranklens"
FILES = ("rankings", "interactions", "movies")
PEOPLE, LISTS_EACH = 5, 2
CHARACTERS = 60  # of an overview: to encode whole ones takes many seconds

pytestmark = pytest.mark.skipif(
    not RANKLENS.is_dir(), reason="RankLens is not beside the checkout (../shared/data/ranklens)"
)


@pytest.fixture(scope="module")
def few_people(tmp_path_factory):
    """A folder like RankLens with the last lists of people who have two or more, their clicks and their films."""
    rankings, clicks, films = (pd.read_parquet(RANKLENS / f"{name}.parquet") for name in FILES)
    rankings = rankings.sort_values(["user", "timestamp", "id"])
    lists = rankings.groupby("user").tail(LISTS_EACH).groupby("user").filter(lambda own: len(own) == LISTS_EACH)
    lists = lists.head(PEOPLE * LISTS_EACH)
    shown = {int(item["id"]) for items in lists["items"] for item in items}
    films = films[films.id.isin(shown)].assign(overview=films["overview"].str[:CHARACTERS])
    kept = (lists, clicks[clicks.ranking.isin(lists.id)], films)
    folder = tmp_path_factory.mktemp("few people")
    for name, rows in zip(FILES, kept, strict=True):
        rows.to_parquet(folder / f"{name}.parquet")
    return folder


@pytest.fixture(scope="module")
def workspace(empty_registry, tmp_path_factory):
    found = Workspace(tmp_path_factory.mktemp("workspace"))
    (found.folder / "local" / "ranklens").mkdir(parents=True)
    shutil.copy(empty_registry, found.folder / "local" / "ranklens" / "mlflow.db")
    return found


def test_make_ranklens_prints_how_the_last_lists_were_ordered(spark, few_people, workspace):
    done = make_here(workspace, "ranklens", f"FROM={few_people}")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    known = done.stdout[done.stdout.index("user=known: ") :]  # who was met before the day
    cell = r" +(0\.\d+) \[0\.\d+, 0\.\d+\]"
    rows = re.findall(rf"^(\w+){cell * 4}$", known, re.M)
    found = {name: (float(ndcg), float(auc)) for name, ndcg, _, _, auc in rows}
    people = int(re.match(r"user=known: (\d+) users", known)[1])
    assert PEOPLE - 5 <= people <= PEOPLE  # who clicked none of the last list says nothing of its order
    assert found["random"][1] == 0.5
    assert found["match"][0] > found["random"][0]
    assert found["score"][0] > found["random"][0]
    assert re.search(r"^score - rate +-?0\.\d+ \[", known, re.M)


def test_make_train_ranklens_says_where_the_lists_are_too_few_to_learn_from(spark, few_people, workspace):
    done = make_here(workspace, "train-ranklens", f"FROM={few_people}")
    assert done.returncode == 2
    assert "expected 30 lists or more, and clicks" in done.stdout
    assert "training.train_days" in done.stdout
