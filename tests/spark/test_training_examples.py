import hashlib
import math
import random
from collections import Counter
from datetime import date, timedelta

import pytest

from llmrec_spark.accepted_log import AcceptedLog
from llmrec_spark.config import Config
from llmrec_spark.sampled_negatives import draw_ranges
from llmrec_spark.training_config import TrainingConfig
from llmrec_spark.training_data import TrainingLog, training_days
from llmrec_spark.training_examples import shown_ads
from llmrec_spark.training_splits import with_folds
from llmrec_spark.training_tables import TRAINING_EXAMPLES, TRAINING_HISTORIES
from tests.conftest import at, session_time_zone
from tests.spark.rows import DAY, ads_of, event, events_of

TRAIN_DAY, VALIDATION_DAY, TEST_DAY = (DAY - timedelta(days=days) for days in (3, 2, 1))
LABELS = ["clicked", "converted"]
PLACES = {"inputs": {name: {"path": f"in/{name}"} for name in ("events", "ads")}, "tables": {"root": "out"}}
WEIGHTS = {"impression": 0, "click": 1, "purchase": 3, "search": 1}


def config_of(*, impressions=("impression",), **training):
    settings = {"train_days": 10, "validation_days": 1, "test_days": 1, "conversion_days": 1} | training
    return Config(
        **PLACES,
        mlflow={"tracking_uri": "sqlite:///out/mlflow.db"},
        events={"weights": WEIGHTS, "impressions": impressions},
        training=TrainingConfig(**settings),
    )


def days_of(spark, rows, config, days, *, ads="abcdef", partitions=1):
    """training_histories and training_examples of some days."""
    events = events_of(spark, *rows).repartition(partitions)
    known = AcceptedLog(events, None, ads_of(spark, *[{"ad_id": ad_id} for ad_id in ads]))
    return training_days(TrainingLog(known, config), days=days, as_of=DAY, until=DAY)


def day_of(spark, rows, config, *, day=TRAIN_DAY, **more):
    """Those of one day, without it."""
    return [rows.drop("run_date") for rows in days_of(spark, rows, config, [day], **more)]


def examples_of(*arguments, **more):
    """example_id -> its row."""
    found = day_of(*arguments, **more)[1].collect()
    assert len({row.example_id for row in found}) == len(found)
    return {row.example_id: row for row in found}


def on(day, hours=12.0):
    return at(f"{day} 00:00") + timedelta(hours=hours)


def shown(event_id, day=TRAIN_DAY, hours=12.0, **more):
    return event(event_id, "impression", on(day, hours), **more)


def click(event_id, day=TRAIN_DAY, hours=12.1, **more):
    return event(event_id, "click", on(day, hours), **more)


def purchase(event_id, day=TRAIN_DAY, hours=13.0, **more):
    return event(event_id, "purchase", on(day, hours), **more)


def user_of(fold=None, inner_fold=None):
    """A user id of these folds."""
    for number in range(1_000):
        digits = int(hashlib.md5(f"user{number}".encode()).hexdigest(), 16)
        if fold in (None, digits // 5 % 5) and inner_fold in (None, digits // 25 % 5):
            return f"user{number}"
    raise AssertionError((fold, inner_fold))


def random_log(seed, impressions=True):
    """Lists and what came of them on five days around TRAIN_DAY, with everything that a careless join would let in."""
    draw = random.Random(seed)
    kinds = ["impression"] * 6 * impressions + ["click"] * 3 + ["purchase", "search"]
    return [
        event(f"e{n:03d}", kind, on(TRAIN_DAY - timedelta(days=2), draw.randrange(0, 5 * 24, 2)))
        | {"user_id": draw.choice("uvw"), "ad_id": None if kind == "search" else draw.choice("abc")}
        | {"request_id": draw.choice([None, "r1", "r2", "r3", "r4"]), "query": "shoes" if kind == "search" else None}
        for n in range(300)
        for kind in [draw.choice(kinds)]
    ]


@pytest.mark.parametrize("impressions", [("impression",), ()], ids=["shown", "acted on"])
def test_nothing_from_the_day_on_is_in_a_row_but_its_labels(spark, impressions):
    config = config_of(impressions=impressions)
    log = random_log(1, bool(impressions))
    with session_time_zone(spark, "America/Los_Angeles"):
        of_whole_log = known_by_then(day_of(spark, log, config, partitions=3))
    kinds = impressions or ("click", "purchase", "search")
    of_day = [row for row in log if row["event_ts"].date() == TRAIN_DAY and row["event_type"] in kinds]
    before = [row for row in log if row["event_ts"] < on(TRAIN_DAY, 0)]
    assert of_whole_log == known_by_then(day_of(spark, before + of_day, config))
    assert [len(table) for table in of_whole_log] == [3, 40 if impressions else 42]


def with_midnights(log):
    """`log`, and of a user z: a click after midnight, and one whose request is shown only after midnight."""
    return [
        *log,
        shown("m1", hours=23.5, user_id="z", ad_id="b", request_id="night"),
        click("n1", VALIDATION_DAY, 0.5, user_id="z", ad_id="b", request_id="night"),
        shown("m2", hours=23.7, user_id="z", ad_id="c"),
        click("n2", hours=23.8, user_id="z", ad_id="c", request_id="late"),
        shown("m3", VALIDATION_DAY, 0.2, user_id="z", ad_id="c", request_id="late"),
        shown("m4", TEST_DAY, user_id="z", ad_id="d"),
    ]


def test_each_day_knows_the_clicks_before_it_and_credits_them_by_the_log_before_it(spark):
    histories, examples = days_of(spark, with_midnights([]), config_of(), [TRAIN_DAY, VALIDATION_DAY, TEST_DAY])
    assert {row.run_date: (row.ad_ids, row.skipped_ad_ids) for row in histories.collect()} == {
        VALIDATION_DAY: (["c"], ["b"]),  # n2 was of m2
        TEST_DAY: (["c", "b"], ["c"]),  # and is of m3
    }
    counts = {
        row.example_id: (row.user_shown, row.user_clicks, row.ad_shown, row.ad_clicks, row.mean_rate)
        for row in examples.collect()
    }
    assert counts == {
        "m1": (0, 0, 0, 0, 1e-4),
        "m2": (0, 0, 0, 0, 1e-4),
        "m3": (2, 1, 1, 1, 1 / 2),
        "m4": (3, 2, 0, 0, 1 / 2),
    }


SWITCHED = {"history": "other_requests", "statistics": "other_folds"}


@pytest.mark.parametrize(
    "impressions, settings, days_alone",
    [
        (("impression",), {}, [VALIDATION_DAY]),
        (("impression",), SWITCHED | {"split": "users", "validation_days": 3, "test_days": 2}, [TRAIN_DAY]),
        ((), {}, [TRAIN_DAY]),
    ],
    ids=["shown", "by users", "acted on"],
)
def test_days_made_together_are_the_days_made_alone(spark, impressions, settings, days_alone):
    log, config = with_midnights(random_log(2, bool(impressions))), config_of(impressions=impressions, **settings)
    days = [VALIDATION_DAY, TRAIN_DAY]
    together = [rows.collect() for rows in days_of(spark, log, config, days, partitions=2)]
    for day in days_alone:
        alone = [rows.collect() for rows in days_of(spark, log, config, [day])]
        for rows, others in zip(alone, together, strict=True):
            assert rows
            assert by_key(rows) == by_key(row for row in others if row.run_date == day)


def by_key(rows):
    """The rows in an order of their own."""
    return sorted((row.asDict() for row in rows), key=lambda row: [row.get(name, "") for name in IN_ORDER])


IN_ORDER = ("run_date", "user_id", "history_id", "example_id")


def known_by_then(tables):
    """The rows of histories and of examples, in order, without the labels."""
    histories, examples = tables
    histories, examples = histories.orderBy("user_id").collect(), examples.drop(*LABELS).orderBy("example_id").collect()
    return histories, examples


@pytest.mark.parametrize(
    "impressions, switched",
    [(("impression",), {"history": "other_requests", "statistics": "other_folds", "split": "users"}), ((), {})],
)
def test_an_empty_log_has_no_examples_in_tables_of_the_contract(spark, impressions, switched):
    found = day_of(spark, [], config_of(impressions=impressions, **switched))
    for rows, table in zip(found, (TRAINING_HISTORIES, TRAINING_EXAMPLES), strict=True):
        expected = {c.name: c.kind for c in table.columns if c.name not in ("training_set", "run_date")}
        assert dict(rows.dtypes) == expected
    assert found[1].count() == 0


BEFORE = TRAIN_DAY - timedelta(days=1)
LOG = [  # of four people who share no ad
    shown("l1", request_id="r", position=1, propensity=0.5, user_id="labels", ad_id="l1"),
    shown("l2", request_id="r", position=2, user_id="labels", ad_id="l2"),
    shown("l3", user_id="labels", ad_id="ad without a record"),
    click("cl1", request_id="r", user_id="labels", ad_id="l1"),
    click("cl2", request_id="r", user_id="labels", ad_id="l2"),
    purchase("pl1", hours=36.1, user_id="labels", ad_id="l1"),  # a day after the click, to the minute
    purchase("pl2", hours=36.2, user_id="labels", ad_id="l2"),  # after the window
    shown("k0", BEFORE, user_id="known", ad_id="b", request_id="r0"),
    click("ck0", BEFORE, user_id="known", ad_id="b", request_id="r0"),
    shown("k1", BEFORE, hours=23.9, user_id="known", ad_id="c", request_id="r1"),
    click("ck1", hours=0.1, user_id="known", ad_id="c", request_id="r1"),  # c was a skip when the day began
    shown("k2", user_id="known", request_id="r2"),
    shown("k3", user_id="known", request_id="r2", ad_id="d"),
    click("ck3", user_id="known", request_id="r2", ad_id="d"),  # the same request's other click
    click("ck4", hours=20, user_id="known", ad_id="e"),  # later that day
    shown("k5", VALIDATION_DAY, user_id="known", ad_id="f", request_id="r3"),
    click("ck5", VALIDATION_DAY, user_id="known", ad_id="f", request_id="r3"),
    shown("n0", date(2026, 1, 1), user_id="counts", ad_id="n"),  # before the window
    shown("n1", BEFORE, hours=10, user_id="counts", ad_id="n", request_id="s1"),
    purchase("pn1", BEFORE, user_id="counts", ad_id="n"),
    shown("n2", hours=1, user_id="counts", ad_id="n", request_id="s2"),
    click("cn2", hours=2, user_id="counts", ad_id="n", request_id="s2"),
    purchase("pn2", hours=3, user_id="counts", ad_id="n"),
    shown("o1", hours=23.5, user_id="open", ad_id="o1"),
    click("co1", hours=24.5, user_id="open", ad_id="o1"),
    shown("o2", user_id="open", ad_id="o2"),
    click("co2", user_id="open", ad_id="o2"),
    purchase("po2", user_id="open", ad_id="o2"),
]


@pytest.fixture(scope="module")
def known_before(spark):
    """The histories and examples of a day of LOG, by user and history, and by example."""
    ads = ["a", "b", "c", "d", "e", "f", "l1", "l2", "n", "o1", "o2"]
    histories, examples = day_of(spark, LOG, config_of(), ads=ads)
    found = {(row.user_id, row.history_id): row for row in histories.collect()}
    return found, {row.example_id: row for row in examples.collect()}


def test_an_example_is_what_was_shown_and_what_came_of_it_in_time(known_before):
    found = {name: row for name, row in known_before[1].items() if row.user_id == "labels"}
    assert {
        name: (row.request_id, row.list_id, row.ad_id, row.position, row.propensity, row.clicked, row.converted)
        for name, row in found.items()
    } == {
        "l1": ("r", "r", "l1", 1, 0.5, True, True),
        "l2": ("r", "r", "l2", 2, None, True, False),
        "l3": (None, str(TRAIN_DAY), "ad without a record", None, None, False, False),
    }
    assert {(row.split, row.log_sampling_rate) for row in found.values()} == {("train", None)}


def test_a_history_is_what_was_known_when_the_day_began_and_who_has_none_has_no_row(known_before):
    found = {key: (row.ad_ids, row.skipped_ad_ids) for key, row in known_before[0].items()}
    day = str(TRAIN_DAY)
    assert found == {("known", day): (["b"], ["c"]), ("counts", day): (["n"], ["n", "n"])}


def test_counts_are_those_of_the_window_before_the_day(known_before):
    found = known_before[1]
    counts = {
        name: (row.ad_shown, row.ad_clicks, row.ad_conversions, row.user_shown, row.user_clicks)
        for name, row in found.items()
        if name in ("n2", "k2", "k3", "l1")
    }
    assert counts == {"n2": (1, 0, 1, 1, 0), "k2": (0, 0, 0, 2, 1), "k3": (0, 0, 0, 2, 1), "l1": (0, 0, 0, 0, 0)}
    assert {row.mean_rate for row in found.values()} == {1 / 3}


def test_labels_are_of_the_events_before_a_given_day_and_unknown_while_windows_are_open(spark, known_before):
    config = config_of()
    log = events_of(spark, *[row for row in LOG if row["user_id"] == "open"])
    early = shown_ads(log, days=[TRAIN_DAY], until=VALIDATION_DAY, types=config.events, training=config.training)
    assert {row.ad_id: (row.clicked, row.converted) for row in early.collect()} == {
        "o1": (False, None),
        "o2": (True, None),
    }
    later = {name: (row.clicked, row.converted) for name, row in known_before[1].items() if row.user_id == "open"}
    assert later == {"o1": (True, False), "o2": (True, True)}


REQUESTS = [
    shown("i1", BEFORE, request_id="r1"),
    click("c1", BEFORE, request_id="r1"),
    shown("i2", request_id="r2", ad_id="b"),
    click("c2", request_id="r2", ad_id="b"),
    shown("i3", hours=13, request_id="r3", ad_id="c"),
    event("s1", "search", on(TRAIN_DAY, 14), ad_id=None, query="shoes"),
    shown("i4", VALIDATION_DAY, request_id="r4", ad_id="d"),
    click("c4", VALIDATION_DAY, request_id="r4", ad_id="d"),
    # what a list may have led to
    click("earlier", hours=11, user_id="v"),
    shown("j1", request_id="q1", user_id="v"),
    click("d1", user_id="v"),  # names no request
    purchase("p1", request_id="checkout 7", user_id="v"),  # names one that is no list
    shown("j2", hours=20, request_id="q2", user_id="v"),
    click("d2", hours=20.1, request_id="q2", user_id="v"),  # on the same ad, from another list
    # a list without a request is that of its day
    shown("k1", user_id="w"),
    click("e1", user_id="w"),
    shown("k2", hours=13, user_id="w", ad_id="b"),
    shown("k3", BEFORE, user_id="w", ad_id="c"),
    *[shown(f"x{n}", BEFORE, user_id="x", ad_id="f") for n in range(5)],
]


@pytest.fixture(scope="module")
def of_others(spark):
    """Histories and examples of a day of REQUESTS, from all requests but ones own and all folds but ones own."""
    log = [row | {"user_id": OTHERS[row["user_id"]]} for row in REQUESTS]
    histories, examples = day_of(spark, log, config_of(history="other_requests", statistics="other_folds"))
    found = {(row.user_id, row.history_id): row for row in histories.collect()}
    return found, {row.example_id: row for row in examples.collect()}


OTHERS = {user: user_of(inner_fold=number) for number, user in enumerate("uvwx")}


@pytest.mark.parametrize(
    "user, list_id, expected",
    [
        ("u", "r2", (["a", None], ["c"])),  # later ones too, but none after the cut
        ("u", "r3", (["a", "b", None], [])),
        ("v", "q1", (["a", "a"], [])),  # the click before it and that of the other list
        ("w", str(TRAIN_DAY), ([], ["c"])),
    ],
)
def test_other_requests_are_all_lists_before_the_cut_but_ones_own_and_what_it_led_to(
    of_others, user, list_id, expected
):
    row = of_others[0][OTHERS[user], list_id]
    assert (row.ad_ids, row.skipped_ad_ids) == expected
    assert "purchase" not in row.event_types


def test_counts_of_a_user_are_those_of_the_other_requests(of_others):
    found = {name: (row.user_shown, row.user_clicks) for name, row in of_others[1].items()}
    assert found == {"i2": (2, 1), "i3": (2, 2), "j1": (1, 1), "j2": (1, 1), "k1": (1, 0), "k2": (1, 0)}


def test_counts_of_an_ad_leave_out_the_users_of_ones_own_fold(of_others):
    found = {name: (row.ad_shown, row.ad_clicks, row.mean_rate) for name, row in of_others[1].items()}
    of_u, of_v, of_w = 3 / 10, 3 / 11, 4 / 10  # clicked / shown of the others, before the cut
    assert found == {
        "i2": (1, 0, of_u),
        "i3": (1, 0, of_u),
        "j1": (2, 2, of_v),
        "j2": (2, 2, of_v),
        "k1": (3, 3, of_w),
        "k2": (1, 1, of_w),
    }


def test_users_who_are_scored_are_neither_trained_on_nor_counted(spark):
    users = {
        "tested": user_of(fold=3),
        "held": user_of(fold=1, inner_fold=2),
        "one": user_of(fold=1, inner_fold=3),
        "two": user_of(fold=2, inner_fold=4),
    }
    days = (VALIDATION_DAY, TEST_DAY)
    rows = [shown(f"{name} {day}", day, user_id=user) for name, user in users.items() for day in days]
    rows += [click(f"click of {name}", TEST_DAY, user_id=user) for name, user in users.items()]
    config = config_of(
        split="users", test_fold=3, validation_fold=2, history="other_requests", statistics="other_folds"
    )
    found = examples_of(spark, rows, config, day=TEST_DAY)
    assert {name.split()[0]: (row.split, row.ad_shown, row.ad_clicks) for name, row in found.items()} == {
        "tested": ("test", 4, 2),
        "held": ("validation", 4, 2),
        "one": ("train", 2, 1),
        "two": ("train", 2, 1),
    }
    assert found[f"tested {TEST_DAY}"].history_id == str(TEST_DAY)


def test_folds_are_digits_of_the_md5_of_the_user(spark):
    users = ["anna", "cem", "跑者", "", "90df34e521cc3d53af5f42f5c16ecb60"]
    found = with_folds(spark.createDataFrame([(user,) for user in users], "user_id string")).collect()
    digits = [int(hashlib.md5(user.encode()).hexdigest(), 16) for user in users]
    expected = [(number // 5 % 5, number // 25 % 5) for number in digits]
    assert [(row.fold, row.inner_fold) for row in found] == expected


def acted_log(users=20):
    """Everyone acted on ad a on the days before, u0 on a and b that day; a and a search are no reason to doubt c."""
    before = TRAIN_DAY - timedelta(days=1)
    return [
        *[click(f"a{n}", before, user_id=f"u{n}") for n in range(users)],
        click("p1", user_id="u0"),
        click("p1 again", hours=13, user_id="u0"),
        purchase("p2", user_id="u0", ad_id="b"),
        click("gone", user_id="u0", ad_id="no longer there"),
    ]


def draws(example_id, weights, negatives, never, seed=1):
    """The ads drawn beside an example, one draw after the other."""
    found = []
    for number in range(1, 2 * negatives + 9):
        digest = hashlib.md5(f"{seed}|{example_id}|{number}".encode()).hexdigest()
        place = int(digest[:15], 16) % sum(weights.values())
        drawn = next(ad_id for ad_id in sorted(weights) if place < sum(weights[one] for one in weights if one <= ad_id))
        if drawn not in never:
            found.append(drawn)
    return found[:negatives]


def test_without_impressions_ads_are_drawn_beside_what_was_acted_on(spark):
    config = config_of(impressions=(), negatives_per_positive=30, negatives_exponent=0.75)
    found = examples_of(spark, acted_log(), config, partitions=5)
    weights = dict.fromkeys("abcdef", 1_000) | {"a": round(21**0.75 * 1_000)}
    positives = {name: row for name, row in found.items() if row.clicked}
    assert {name: (row.ad_id, row.converted) for name, row in positives.items()} == {
        "p1": ("a", False),
        "p2": ("b", True),
    }
    for name in positives:
        beside = [row.ad_id for row in found.values() if row.list_id == name and not row.clicked]
        assert Counter(beside) == Counter(draws(name, weights, 30, "ab"))
    for row in found.values():
        assert row.log_sampling_rate == pytest.approx(math.log(weights[row.ad_id] / sum(weights.values())))
    assert (positives["p1"].ad_shown, positives["p1"].ad_clicks) == (20, 20)
    assert (positives["p2"].ad_shown, positives["p2"].ad_clicks) == (20, 0)
    assert positives["p1"].mean_rate == pytest.approx(20 / (20 * 6))
    assert (positives["p1"].user_shown, positives["p1"].user_clicks) == (None, 1)


def test_with_an_exponent_of_zero_all_ads_are_drawn_alike(spark):
    acted = spark.createDataFrame([("u", "a"), ("v", "a")], "user_id string, ad_id string")
    ranges = draw_ranges(ads_of(spark, {"ad_id": "b"}, {"ad_id": "a"}), acted, exponent=0.0).collect()
    assert [(row.ad_id, row.first, row.beyond) for row in ranges] == [("a", 0, 1_000), ("b", 1_000, 2_000)]
