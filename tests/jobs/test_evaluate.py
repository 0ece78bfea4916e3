"""A day is scored, audited and published, people answer it, and it is judged: on the golden tables, in this process."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from pyspark.sql import functions as F

from llmrec_spark.errors import TryAgainError
from llmrec_spark.metrics import one_list
from llmrec_spark.reliability import p_click_of
from tests.conftest import at
from tests.jobs.conftest import DAY, golden_rows, job, own, write_conf, write_golden
from tests.loopback import serving

ANSWERED = 3  # ads shown of each list


def answers(spark, folder, *, clicked_rank, run_id=None, hour=12, day=1, propensity=None):
    """Events of a day of March: the first ads of each list are shown, and the one of a rank is clicked and bought."""
    of_day = own(spark, folder, "recommendations").where(f"run_date = '2026-03-0{day}'")
    lists = of_day.where(F.col("rank") <= ANSWERED).collect()
    rows = []
    for row in lists:
        key = f"{row.user_id}-{row['rank']}-{day}-{hour}"
        shown = at(f"2026-03-0{day} {hour}:00")
        base = (row.user_id, row.ad_id)
        of_request = (f"r-{row.user_id}-{day}-{hour}", row["rank"])
        rows.append((f"i-{key}", *base, "impression", shown, *of_request, None, run_id, propensity))
        if row["rank"] == clicked_rank:
            clicked, bought = at(f"2026-03-0{day} {hour}:01"), at(f"2026-03-0{day + 1} {hour}:00")
            rows.append((f"c-{key}", *base, "click", clicked, *of_request, None, run_id, None))
            rows.append((f"p-{key}", *base, "purchase", bought, None, None, None, run_id, None))
    schema = (
        "event_id string, user_id string, ad_id string, event_type string, event_ts timestamp, request_id string, "
        "position int, query string, run_id string, propensity double"
    )
    return spark.createDataFrame(rows, schema)


def own_events(spark, folder):
    """The company's log."""
    return spark.read.format("delta").load(str(folder / "local/golden/events"))


def append(folder, rows):
    rows.write.format("delta").mode("append").option("mergeSchema", "true").save(str(folder / "local/golden/events"))


@pytest.fixture(scope="module")
def shadowed(spark, model_folder, empty_registry, tmp_path_factory):
    """A folder in which a shadow run made the lists of the golden day, its configuration, and how to try again."""
    folder = tmp_path_factory.mktemp("answered")
    write_golden(spark, folder)
    shutil.copy(empty_registry, folder / "mlflow.db")
    conf = write_conf(folder, folder / "conf.yaml", evaluation={"group_columns": ["category"]})
    run = ("score_daily", "--config", conf, *DAY, "--model", model_folder)
    code, said = job(*run, "--shadow", "--show")
    assert code == 0, said
    assert "is shown:" in said
    assert own(spark, folder, "rankings").count() > 0
    assert not published(folder)
    return folder, conf, run


def published(folder):
    return (folder / "own" / "recommendations").exists()


@pytest.fixture(scope="module")
def refused(spark, shadowed):
    """What a try said whose audit asked for too much, and how it ended."""
    folder, _, run = shadowed
    code, said = job(*run, "--set", "audit.min_users=1000")
    [row] = own(spark, folder, "runs").collect()
    return code, said, row.status, published(folder)


@pytest.fixture(scope="module")
def outrun(shadowed, refused):
    """What a try said, and told, that met another writer when it published."""

    def conflict(*_):
        raise TryAgainError("another writer was faster")

    folder, _, run = shadowed
    with pytest.MonkeyPatch.context() as patched, serving() as server:
        patched.setattr("llmrec_spark.daily_runs.publish", conflict)
        code, said = job(*run, "--set", f"notify.openlineage_url=http://{server.place}")
    return code, said, [event for _, _, event in server.seen], published(folder)


@pytest.fixture(scope="module")
def told(shadowed, outrun):
    """What the try said that published, by another bound, and what it and the one after it told; its gauges."""
    folder, _, run = shadowed
    gauges = folder / "llmrec.prom"
    with serving() as server:
        told = ("--set", f"notify.openlineage_url=http://{server.place}", "--set", f"notify.prometheus_file={gauges}")
        code, said = job(*run, *told, "--set", "audit.max_short_share=0.99")
        assert code == 0, said
        assert job(*run, *told)[0] == 0  # published already: nobody is told
    return said, [event for _, _, event in server.seen], gauges.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def answered(spark, shadowed, told):
    """The folder with the golden day published and answered by clicks on rank 2, and its configuration."""
    folder, conf, _ = shadowed
    append(folder, answers(spark, folder, clicked_rank=2))
    return folder, conf


def test_a_failed_audit_publishes_nothing_and_names_the_check(refused):
    code, said, status, is_published = refused
    assert code == 70
    assert "audit.min_users: found 13 lists, expected 1000 or more" in said
    assert (status, is_published) == ("refused", False)


def test_a_try_that_meets_another_writer_publishes_nothing_and_uses_the_tables_of_the_shadow_run(outrun):
    code, said, events, is_published = outrun
    assert (code, "audited in an earlier try of this run" in said) == (75, True)
    assert [event["eventType"] for event in events] == ["START", "FAIL"]
    assert not is_published


def test_a_later_try_publishes_the_tables_of_the_shadow_run_and_tells_once(spark, shadowed, told):
    folder, _, _ = shadowed
    said, (started, completed), gauges = told
    assert said.count("of an earlier try of this run") == 8  # every stage of the line, to be audited by another bound
    assert "published 2026-03-01: " in said
    assert (started["eventType"], completed["eventType"]) == ("START", "COMPLETE")
    assert [Path(one["name"]).name for one in completed["outputs"]] == ["rankings", "recommendations"]
    assert {Path(one["name"]).name for one in completed["inputs"]} == {"events", "ads"}
    assert 'llmrec_recommendations{job="score_daily",model_version="folder:' in gauges
    assert f"}} {float(own(spark, folder, 'recommendations').count())}" in gauges


def evaluations(spark, folder):
    """(scorer, metric, slice) -> the rows, in order of how far the log reached."""
    found = {}
    for row in own(spark, folder, "evaluations").orderBy("evaluated_through").collect():
        found.setdefault((row.scorer, row.metric, row["slice"]), []).append(row)
    return found


def test_a_day_without_events_cannot_be_judged(spark, tables, model_folder, tmp_path):
    conf = write_conf(tables, tmp_path / "conf.yaml")
    code, said = job("evaluate_daily", "--config", conf, *DAY)
    assert (code, "2026-03-01 is not published" in said) == (65, True)


def test_a_group_column_that_the_ads_lack_is_named(answered):
    _, conf = answered
    code, said = job("evaluate_daily", "--config", conf, *DAY, "--set", "evaluation.group_columns=[colour]")
    assert (code, "evaluation.group_columns: inputs.ads has no columns ['colour']" in said) == (65, True)


def test_a_day_is_judged_by_what_happened(spark, answered):
    folder, conf = answered
    code, said = job("evaluate_daily", "--config", conf, *DAY)
    assert code == 0, said
    found = evaluations(spark, folder)
    users = own(spark, folder, "recommendations").select("user_id").distinct().count()
    [impressions] = found["shown", "impressions", "all"]
    assert (impressions.value, impressions.n) == (3 * users, users)
    assert found["shown", "ctr", "position=2"][0].value == 1.0
    assert found["shown", "ctr", "position=1"][0].value == 0.0
    assert found["shown", "cvr", "all"][0].value == 1.0
    assert found["shown", "roi", "all"][0].value is None  # no costs in this log
    [ndcg] = found["score", "ndcg", "all"]
    second_of_three = one_list("ndcg", np.array([-1.0, -2.0, -3.0]), np.array([False, True, False]))
    assert (ndcg.value, ndcg.k, ndcg.n) == (pytest.approx(second_of_three), 10, users)
    assert found["random", "group_auc", "all"][0].value == 0.5
    assert found["score - random", "group_auc", "all"][0].value == 0.0
    lists = own(spark, folder, "recommendations").select("user_id", "ad_id").distinct()
    live = own(spark, folder, "backgrounds").count()
    places, listed = lists.count(), lists.select("ad_id").distinct().count()
    [coverage] = found["score", "coverage", "all"]
    assert (coverage.value, coverage.low, coverage.k, coverage.n) == (pytest.approx(listed / live), None, 10, places)
    assert found["random", "coverage", "all"][0].value > found["popularity", "coverage", "all"][0].value
    [diversity] = found["score", "diversity", "all"]
    assert (diversity.low <= diversity.value <= diversity.high, diversity.n) == (True, users)
    assert 0 < diversity.value < found["random", "diversity", "all"][0].value == pytest.approx(1, abs=0.2)
    [novelty] = found["score - popularity", "novelty", "all"]
    assert novelty.value > 0
    assert 0 < found["score", "serendipity", "all"][0].value <= 1 / ANSWERED
    assert 0 <= found["score", "repeat_rate", "all"][0].value < found["popularity", "repeat_rate", "all"][0].value
    shares = {key[2]: rows[0].value for key, rows in found.items() if key[:2] == ("score", "exposure_share")}
    assert (len(shares) > 1, sum(shares.values())) == (True, pytest.approx(1))
    assert all(("random", "exposure_share", name) in found for name in shares)
    assert "variety of the lists" in said
    assert "score - rate" in said
    [report] = (folder / "own" / "reports").glob("2026-03-01_*.html")
    [tracked] = (folder / "art").rglob("report.html")
    page, shared = report.read_text(encoding="utf-8"), tracked.read_text(encoding="utf-8")
    people = {row.user_id for row in own(spark, folder, "recommendations").select("user_id").distinct().collect()}
    assert sum(f"user {user}" in page for user in people) == 6  # three best lists, three worst
    assert not [user for user in people if user in shared]
    assert "because you clicked" in page
    assert "no off-policy values: The log has no propensities." in said
    assert not [metric for _, metric, _ in found if metric.startswith("off_policy")]


@pytest.fixture(scope="module")
def by_texts(spark, shadowed, told, reading):
    """A shadow run of the day by a model that reads histories as texts."""
    folder, conf, _ = shadowed
    code, said = job("score_daily", "--config", conf, *DAY, "--model", reading, "--shadow")
    assert code == 0, said
    [shadow] = own(spark, folder, "runs").where("status = 'shadow'").collect()
    return shadow


def test_a_day_is_scored_by_what_the_encoder_makes_of_histories(spark, shadowed, by_texts):
    folder, _, _ = shadowed
    ranked = own(spark, folder, "rankings").where(f"run_id = '{by_texts.run_id}'")
    reasons = ranked.selectExpr("user_id", "explode(reasons.field) AS field").collect()
    fields = ("clicks as one text", "skips as one text")
    clicks, skips = ({row.user_id for row in reasons if row.field == field} for field in fields)
    known = {row["ad_id"] for row in golden_rows("ads.jsonl")}
    clicked = (row for row in golden_rows("events.jsonl") if row["event_type"] == "click" and row["ad_id"] in known)
    assert clicks == {row["user_id"] for row in clicked}
    assert skips
    assert by_texts.counts["history_texts"] == len(clicks | skips)
    assert by_texts.seconds["history_texts"] > 0
    assert ranked.where("p_click IS NULL").count() == 0
    of_ads = own(spark, folder, "ad_statistics").where(f"run_id = '{by_texts.run_id}'")
    assert of_ads.where("settled IS NULL OR converted > settled OR settled > clicks").count() == 0


def test_a_longer_log_adds_rows_and_a_shadow_run_is_judged_beside_the_published_one(spark, answered, by_texts):
    folder, conf = answered
    before = evaluations(spark, folder)
    shadow = by_texts
    append(folder, answers(spark, folder, clicked_rank=1, hour=20, propensity=0.5))  # again in the evening
    code, said = job("evaluate_daily", "--config", conf, *DAY, "--against", shadow.run_id)
    assert code == 0, said
    later = evaluations(spark, folder)
    assert {key: len(rows) for key, rows in before.items()} == dict.fromkeys(before, 1)
    assert all(later[key][0] == rows[0] for key, rows in before.items())
    assert [row.value for row in later["shown", "ctr", "position=1"]] == [0.0, 0.5]
    assert f"score - {shadow.run_id}" in said
    assert later[shadow.run_id, "group_auc", "all"][-1].n == later["score", "group_auc", "all"][-1].n
    assert later[p_click_of(shadow.run_id), "log_loss", "all"][-1].value > 0
    code, said = job("evaluate_daily", "--config", conf, *DAY, "--against", "0123456789abcdef")
    assert code == 65
    assert "is no run of 2026-03-01; there are" in said
    assert f"{shadow.run_id} (shadow)" in said


def test_a_ranking_is_not_valued_by_a_log_of_which_half_has_propensities(spark, answered):
    """The evening of the test before had them."""
    folder, _ = answered
    found = evaluations(spark, folder)
    assert found["score", "off_policy_ips", "all"][-1].value is None
    assert found["score", "off_policy_largest_weight", "all"][-1].value == 2.0
    [report] = (folder / "own" / "reports").glob("*.html")
    assert "impressions have no propensity in (0, 1] or no position" in report.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def judged_before(spark, answered):
    """The newest rows of day 1, and its published lists, before the log had the next days."""
    folder, _ = answered
    published = own(spark, folder, "recommendations").drop("run_id").orderBy("user_id", "rank").collect()
    return {key: rows[-1].asDict() for key, rows in evaluations(spark, folder).items()}, published


def test_what_moved_since_the_day_before_is_written_and_told_and_fails_the_job_only_where_asked(
    spark, answered, judged_before, model_folder
):
    folder, conf = answered
    back_fill = ("--from", "2026-03-01", "--to", "2026-03-02", "--model", model_folder)
    code, said = job("score_daily", "--config", conf, *back_fill)
    assert code == 0, said
    assert re.findall(r"^published (\S+): ", said, re.M) == ["2026-03-02"]
    assert said.count("is published already, by run") == 1
    append(folder, answers(spark, folder, clicked_rank=2, day=2))
    told = folder / "told.json"
    hooks = f"notify.hooks=[{{command: [/bin/false]}}, {{command: [tee, {told}]}}]"
    narrow = ("--set", "drift.few_rows=1", "--set", "drift.min_sample=1", "--set", hooks)
    prometheus = ("--set", f"notify.prometheus_file={folder}/{{job}}.prom")
    before = profile(spark, folder)
    with serving(status=201) as server:
        lineage = ("--set", f"notify.openlineage_url=http://{server.place}")
        both = ("--from", "2026-03-01", "--to", "2026-03-02", "--fail-on-alert")
        code, said = job("evaluate_daily", "--config", conf, *both, *narrow, *prometheus, *lineage)
    assert code == 79, said
    assert "no day before is published and evaluated" in said  # of the first day
    assert profile(spark, folder) == before
    assert re.search(r"^ +ALERT rows\.events\.click ", said, re.M)
    assert "WARNING notify.hooks.0 (command /bin/false): exit code 1" in said
    alerts = own(spark, folder, "alerts").orderBy("name").collect()
    names = {row.name: row for row in alerts}
    assert {str(row.run_date) for row in alerts} == {"2026-03-02"}
    clicks = names["rows.events.click"]  # of the 24 hours before: golden users on one day, answers on the other
    assert clicks.value > clicks.bound == 2 * clicks.before
    assert f"2026-03-02: {', '.join(names)}). The days are evaluated" in said
    message = json.loads(told.read_text(encoding="utf-8"))
    assert (message["job"], message["run_date"], message["run_id"]) == ("evaluate_daily", "2026-03-02", clicks.run_id)
    assert {one["name"]: one["value"] for one in message["alerts"]} == {row.name: row.value for row in alerts}
    events = [event for _, _, event in server.seen]
    assert [event["eventType"] for event in events] == ["START", "COMPLETE"] * 2
    assert f"{folder}/own/alerts" in [one["name"] for one in events[-1]["outputs"]]
    gauges = (folder / "evaluate_daily.prom").read_text(encoding="utf-8")
    assert f'job="evaluate_daily",model_version="{job_model(spark, folder)}"}} {float(len(alerts))}' in gauges
    [report] = (folder / "own" / "reports").glob("2026-03-02_*.html")
    assert "Rows: events, click" in report.read_text(encoding="utf-8")


def profile(spark, folder):
    """What is kept of the first day, which each evaluation of it replaces."""
    rows = own(spark, folder, "score_profiles").where("run_date = '2026-03-01'").drop("evaluated_through")
    return sorted(rows.collect(), key=str)


def test_events_of_the_next_days_changed_nothing_of_a_day_but_how_far_the_log_reached(spark, answered, judged_before):
    """The test before evaluated it again."""
    folder, _ = answered
    before, published = judged_before
    of_day = own(spark, folder, "evaluations").where("run_date = '2026-03-01'").orderBy("evaluated_through").collect()
    after = {(row.scorer, row.metric, row["slice"]): row.asDict() for row in of_day}
    through = {key: row.pop("evaluated_through") for key, row in after.items()}
    bought = {"conversions", "cvr", "revenue", "roi"}  # what was bought the day after belongs to its own last click
    again = {key for key in after if through[key].day == 3 and key[1] not in bought}  # without the shadow run
    assert len(again) > 300
    assert {key: after[key] | {"evaluated_through": before[key]["evaluated_through"]} for key in again} == {
        key: before[key] for key in again
    }
    still = own(spark, folder, "recommendations").where("run_date = '2026-03-01'").drop("run_id")
    assert still.orderBy("user_id", "rank").collect() == published


def job_model(spark, folder):
    """The model of the newest run."""
    return own(spark, folder, "runs").orderBy(F.desc("updated_at")).first().model_version
