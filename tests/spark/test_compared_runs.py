from datetime import UTC, date, datetime

import pytest

from llmrec_spark.compared_runs import newest_comparison, seconds_per_user
from llmrec_spark.config import TablesConfig
from llmrec_spark.errors import DataError
from llmrec_spark.evaluation_tables import EVALUATIONS
from llmrec_spark.model_versions import Contest, ModelVersion
from llmrec_spark.promotion_gates import Difference, RunFigures
from llmrec_spark.storage import Storage
from llmrec_spark.tables import RUNS
from tests.compared_rows import SECONDS, judged, run_row

CHAMPION, CHALLENGER = ModelVersion("m", "1", "digest 1"), ModelVersion("m", "2", "digest 2")
CONTEST = Contest(CHALLENGER, CHAMPION)


@pytest.fixture(scope="module")
def stored(spark, tmp_path_factory):
    """Day 1 judged both twice, day 2 the champion only; day 3 is not evaluated, on day 4 the configurations differ."""
    storage = Storage(spark, TablesConfig(root=str(tmp_path_factory.mktemp("compared"))))
    runs = [
        row
        for day in (1, 2, 3, 4)
        for row in (run_row(f"c{day}", day, "1"), run_row(f"s{day}", day, "2", status="shadow"))
    ]
    runs[-1] = run_row("s4", 4, "2", status="shadow", config="another")
    runs.append(run_row("foreign", 4, "2", status="shadow", digest="of another registry"))
    runs.append(run_row("killed", 4, "2", status="running"))
    evaluated = [
        *judged("c1", 1, "2026-03-02 06:00", beside="s1", difference=(0.3, 0.2, 0.4)),
        *judged("c1", 1, "2026-03-03 06:00", beside="s1"),
        *judged("c1", 1, "2026-03-04 06:00", beside="another run"),
        *judged("c2", 2, "2026-03-03 06:00", beside="another run"),
        *judged("c4", 4, "2026-03-05 06:00", beside="foreign"),
    ]
    for table, rows in ((RUNS, runs), (EVALUATIONS, evaluated)):
        storage.create(table)
        spark.createDataFrame(rows, table.ddl).writeTo(storage.where(table)).append()
    return storage


def refusal(storage, day, contest=CONTEST):
    """What the error says."""
    with pytest.raises(DataError) as caught:
        newest_comparison(storage, contest, day=day and date(2026, 3, day), config_file="c.yaml")
    return str(caught.value)


@pytest.mark.parametrize("day", [None, date(2026, 3, 1)])
def test_the_newest_evaluation_of_both_is_read_and_its_differences_are_turned_round(stored, day):
    found = newest_comparison(stored, CONTEST, day=day, config_file="c.yaml")
    of_run = (found.run_date, found.champion_run, found.challenger_run, found.through)
    assert of_run == (date(2026, 3, 1), "c1", "s1", datetime(2026, 3, 3, 6, tzinfo=UTC))
    assert found.figures.champion == RunFigures(0.5, 0.01, 0.8, 0.5)
    assert found.figures.challenger == RunFigures(0.6, 0.02, 0.7, 0.5)
    assert found.figures.ndcg == Difference(0.1, 0.05, 0.15, 40)
    assert list(found.figures.groups) == ["segment=a"]
    assert found.figures.groups["segment=a"].difference == Difference(-0.1, -0.3, 0.1, 40)


def test_a_day_that_judged_the_champion_alone_names_the_run_to_judge(stored):
    assert refusal(stored, 2) == (
        "2026-03-02: was evaluated without the challenger; version 2 has run s2 of it. Once its clicks are in the "
        "log:\n  spark-submit --properties-file conf/spark-defaults.conf jobs/evaluate_daily.py --config c.yaml "
        "--date 2026-03-02 --against s2"
    )


def test_a_day_that_is_not_evaluated_says_so(stored):
    assert refusal(stored, 3).startswith("2026-03-03: is not evaluated; version 2 has run s3 of it.")


def test_runs_of_another_configuration_another_registry_or_without_lists_are_not_compared(stored):
    said = refusal(stored, 4)
    assert "2026-03-04: the challenger, version 2, has not scored it; s4 had another configuration" in said
    assert "jobs/score_daily.py --config c.yaml --date 2026-03-04 --model models:/m/2 --shadow\n" in said
    assert "jobs/evaluate_daily.py --config c.yaml --date 2026-03-04 --against RUN\n" in said


def test_a_day_that_the_champion_did_not_publish_names_one_that_it_did(stored):
    assert (
        refusal(stored, 5)
        == "2026-03-05: was not published by the champion, version 1; give --date 2026-03-04 or none."
    )


def test_a_champion_that_published_nothing_is_to_publish_first(stored):
    said = refusal(stored, None, Contest(CHALLENGER, ModelVersion("m", "3", None)))
    assert said.startswith("every day: was not published by the champion, version 3. Publish a day")


def test_without_any_table_there_is_nothing_to_compare(storage):
    assert "was not published by the champion" in refusal(storage, None)


@pytest.mark.parametrize(
    "seconds, users, expected",
    [(SECONDS, 8, 0.5), ({"text_vectors": 50.0}, 8, None), ({}, 8, None), (SECONDS, 0, None)],
)
def test_seconds_per_user_leave_out_encoding_and_publishing(seconds, users, expected):
    assert seconds_per_user(seconds, {"users": users}) == expected
