"""The scorers of benchmarks/ranklens.py on a small folder made here; on the real one, what needs no encoder."""

import importlib
import sys

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from llmrec_spark.config import EncoderConfig
from llmrec_spark.config_files import load_config
from llmrec_spark.errors import DataError
from llmrec_spark.model.behaviour_encoder import encode_histories
from llmrec_spark.model.match import Parameters, match_pairs
from tests.conftest import REPO, SHARED_DATA
from tests.ranklens_folder import FILMS, random_lists, write_lists, write_movies

sys.path.insert(0, str(REPO / "benchmarks"))
ranklens = importlib.import_module("ranklens")
films_module = importlib.import_module("ranklens_films")
measures = importlib.import_module("ranklens_measures")
protocols = importlib.import_module("ranklens_protocols")
scorers_module = importlib.import_module("ranklens_scorers")

CONFIG = load_config(REPO / "conf" / "ranklens.yaml")
REAL = SHARED_DATA / "ranklens"
on_real_data = pytest.mark.skipif(not REAL.is_dir(), reason="RankLens is not beside the checkout")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("ranklens")
    write_movies(place)
    write_lists(place, *random_lists(3))
    return place


@pytest.fixture(scope="module")
def cache(folder):
    """Vectors of the texts, as if they had been encoded before."""
    records = pq.read_table(folder / "movies.parquet").to_pandas().assign(id=FILMS)
    hashes = films_module.film_texts(records, CONFIG)["text_hash"].unique()
    vectors = np.random.default_rng(0).normal(size=(len(hashes), 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    stored = pd.Series([one.tobytes() for one in vectors], index=hashes)
    films_module.write_vectors(folder / "cache" / "minilm.safetensors", stored, EncoderConfig())
    return folder / "cache"


@pytest.fixture(scope="module")
def films(folder, cache):
    return films_module.load_films(folder, encoder="minilm", cache=cache, config=CONFIG)


@pytest.fixture(scope="module")
def impressions(folder, films):
    return protocols.read_impressions(folder, films.ids)


def all_scores(films, trials):
    """What every scorer gives, by (trial, scorer, user, film)."""
    found = {}
    for number, trial in enumerate(trials):
        statistics = scorers_module.film_statistics(trial.training, films, CONFIG)
        for name, scorer in scorers_module.scorers(films, CONFIG).items():
            values = scorer.score(trial.training, statistics, trial.histories, trial.candidates)
            keys = zip(trial.candidates["user"], trial.candidates["film"], strict=True)
            found |= {(number, name, *key): value for key, value in zip(keys, values, strict=True)}
    return found


def assert_same_scores(some, others):
    common = sorted(some.keys() & others.keys())
    assert len(common) > 100
    mine, theirs = ([one[key] for key in common] for one in (some, others))
    np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)  # batches of other shapes round otherwise


def test_no_scorer_of_production_is_moved_by_what_was_clicked_on_the_last_day(films, impressions):
    of_last_day = (impressions["from_last"] == 0) & (impressions["position"] < 5)
    changed = impressions.assign(clicked=impressions["clicked"] ^ of_last_day)
    before, after = (all_scores(films, protocols.production(rows)) for rows in (impressions, changed))
    assert_same_scores(before, after)


@pytest.mark.parametrize("user", ["u1", "u2", "u5"])
def test_in_warm_the_last_list_of_a_user_moves_scores_of_other_folds_only(films, impressions, user):
    of_user = (impressions["from_last"] == 0) & (impressions["user"] == user) & (impressions["position"] < 5)
    changed = impressions.assign(clicked=impressions["clicked"] ^ of_user)
    before, after = (all_scores(films, protocols.warm(rows)) for rows in (impressions, changed))
    common = sorted(before.keys() & after.keys())
    moved = {key[0] for key in common if abs(before[key] - after[key]) > 1e-5}
    assert moved == {0, 1, 2, 3, 4} - {protocols.user_fold(user, 5)}


def test_no_scorer_of_new_films_is_moved_by_who_clicked_them(films, impressions):
    is_new = impressions["cold_group"] == 0
    changed = impressions.assign(clicked=impressions["clicked"] ^ (is_new & (impressions["position"] % 2 == 0)))
    of_group = {key: value for key, value in all_scores(films, protocols.cold(impressions)).items() if key[0] < 5}
    assert_same_scores(of_group, all_scores(films, protocols.cold(changed)))


def test_rates_shrink_to_the_mean_and_a_film_never_shown_has_it():
    rows = pd.DataFrame({"item": [0, 0, 1, 1, -1], "clicked": [True, False, False, False, True]})
    shown, clicks, rates = scorers_module.click_rates(rows, 3, 10.0)
    assert shown.tolist() == [2, 2, 0]
    assert clicks.tolist() == [1, 0, 0]
    np.testing.assert_allclose(rates, [3.5 / 12, 2.5 / 12, 0.25])


def test_a_history_is_the_last_clicks_oldest_first_and_films_without_a_record_do_not_count():
    rows = pd.DataFrame({"user": "u", "film": list("abcde"), "item": [0, 1, -1, 3, 4], "clicked": [True] * 4 + [False]})
    config = load_config(REPO / "conf" / "ranklens.yaml", ["sequences.max_behaviours=2"])
    found = scorers_module.histories_of(rows, ["nobody", "u"], config)
    assert found["ad_ids"].tolist() == [[], ["b", "d"]]


def test_match_background_and_score_are_those_of_the_direct_formula(films, impressions):
    trial = next(protocols.warm(impressions))
    parameters, every = Parameters.of(CONFIG.match), films.catalogue.live

    def direct(rows, users):
        histories = encode_histories(scorers_module.histories_of(rows, users, CONFIG), films.catalogue)
        found = [match_pairs(films.catalogue, histories, u, every, parameters, "cpu").match for u in range(len(users))]
        return np.stack(found)

    training = direct(trial.training, sorted(trial.training.loc[trial.training["clicked"], "user"].unique()))
    statistics = scorers_module.film_statistics(trial.training, films, CONFIG)
    np.testing.assert_allclose(statistics.figures.background, training.mean(axis=0), rtol=1e-5)
    assert statistics.figures.sigma == pytest.approx((training - training.mean(axis=0)).std(), rel=1e-4)
    user, users = pd.factorize(trial.candidates["user"])
    item, own = trial.candidates["item"].to_numpy(), direct(trial.histories, users)
    rate, background = statistics.figures.rate[item], statistics.figures.background[item]
    lift = np.nan_to_num((own[user, item] - background) / statistics.figures.sigma)
    expected = {"match": own[user, item], "score": np.log(rate / (1 - rate)) + CONFIG.match.beta * lift}
    chosen = scorers_module.scorers(films, CONFIG)
    for name, values in expected.items():
        found = chosen[name].score(trial.training, statistics, trial.histories, trial.candidates)
        assert np.isnan(found[item < 0]).all()
        np.testing.assert_allclose(found[item >= 0], values[item >= 0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("protocol, k", [("production", 10), ("warm", 10), ("cold", 5)])
def test_the_command_prints_every_scorer_and_step(folder, cache, monkeypatch, capsys, protocol, k):
    given = ["--protocol", protocol, "--from", str(folder), "--cache", str(cache), "--set", "match.beta=0.5"]
    monkeypatch.setattr(sys, "argv", ["ranklens.py", *given])
    ranklens.main()
    said = capsys.readouterr().out
    assert said.startswith(f"{protocol}: ")
    assert f"nDCG@{k} " in said
    assert "beta 0.5" in said
    for name in ("random", "votes", "rate", "match", "lift", "score", "score - rate"):
        assert f"\n{name} " in said


def test_a_folder_without_a_list_to_judge_is_refused(folder, cache, tmp_path, monkeypatch):
    write_movies(tmp_path)
    write_lists(tmp_path, [("l", "u", 1, ["1", "2"])], [("l", "2")])
    monkeypatch.setattr(
        sys, "argv", ["ranklens.py", "--protocol", "warm", "--from", str(tmp_path), "--cache", str(cache)]
    )
    with pytest.raises(DataError, match="nobody has an earlier list"):
        ranklens.main()


def test_one_judged_list_leaves_the_other_folds_empty(folder, cache, tmp_path, monkeypatch, capsys):
    write_movies(tmp_path)
    write_lists(tmp_path, [("l1", "u", 1, ["3"]), ("l2", "u", 2, ["1", "2"])], [("l2", "2")])
    monkeypatch.setattr(
        sys, "argv", ["ranklens.py", "--protocol", "warm", "--from", str(tmp_path), "--cache", str(cache)]
    )
    ranklens.main()
    assert "1 lists of 1 users" in capsys.readouterr().out


@on_real_data
def test_on_real_people_the_floors_are_those_the_protocols_were_published_with():
    records = pq.read_table(REAL / "movies.parquet", columns=["id", "tmdbVoteCount"]).to_pandas()
    records = records.assign(id=records["id"].astype(str)).sort_values("id", ignore_index=True)
    impressions = protocols.read_impressions(REAL, pd.Index(records["id"]))
    expected = {"production": (1_452, 10, 0.5963, 0.7462), "warm": (1_452, 10, 0.595, 0.747)}
    for protocol, (lists, k, ndcg, auc) in expected.items():
        found = []
        for trial in protocols.PROTOCOLS[protocol](impressions):
            rates = scorers_module.click_rates(trial.training, len(records), 10.0)[2]
            found.append(measures.judged(trial, scorers_module.of_films(rates, trial.candidates), k))
        found = np.concatenate(found)
        assert len(found) == lists
        assert found.mean(axis=0)[:2] == pytest.approx([ndcg, auc], abs=0.001)
    votes = records["tmdbVoteCount"].to_numpy()
    cold = [measures.judged(t, scorers_module.of_films(votes, t.candidates), 5) for t in protocols.cold(impressions)]
    assert len(np.concatenate(cold)) == 1_815
    assert np.concatenate(cold).mean(axis=0)[:2] == pytest.approx([0.722, 0.701], abs=0.001)
