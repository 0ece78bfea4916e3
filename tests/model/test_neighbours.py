"""Ads that the same people acted on are alike to a ranker that reads it."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from llmrec_spark import explanations
from llmrec_spark.errors import ModelError
from llmrec_spark.model.ad_reader import SAME_PEOPLE, Names
from llmrec_spark.model.catalogue import build_catalogue, open_catalogue
from llmrec_spark.model.kernel_groups import PEOPLE, kernel_group
from llmrec_spark.model.pair_kernels import pair_kernels
from llmrec_spark.model.taste_ranker import open_taste_ranker
from llmrec_spark.model.taste_training import train_taste_ranker
from llmrec_spark.model.training_sample import Totals
from tests.model.catalogues import unit
from tests.model.small_world import ADS, SETTINGS, totals_of

IDS = [f"ad{number:02d}" for number in range(ADS)]


def catalogue(neighbours, ids=IDS):
    """Ads with one and the same text, and one search."""
    texts = pd.DataFrame({"ad_id": ids, "field": "title", "text_hash": "t", "keywords": [[]] * len(ids)})
    queries = pd.DataFrame({"query_hash": ["q"], "keywords": [["shoes"]]})
    vectors = pd.Series({"t": unit(1, 0).tobytes(), "q": unit(0, 1).tobytes()}, dtype=object)
    found = pd.DataFrame(neighbours, columns=["ad_id", "neighbours", "similarities"])
    everyone = {"ad_ids": ids, "live": ids, "behaved": ids}
    rest = {"fields": ("title",), "centre": None, "frequency": {}, "documents": 0}
    return build_catalogue(texts, queries, vectors, **everyone, **rest, neighbours=found)


def test_an_ad_is_itself_and_its_neighbours_at_unit_length(tmp_path):
    made = catalogue([("b", ["a", "gone"], [0.75, 0.5]), ("gone", ["a"], [0.9])], ["a", "b", "c"])
    expected = [[1, 0, 0, 0], [0.6, 0.8, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(made.neighbours.toarray(), expected, atol=1e-6)
    made.save(tmp_path / "run")
    np.testing.assert_array_equal(open_catalogue(str(tmp_path / "run")).neighbours.toarray(), made.neighbours.toarray())


def test_nobody_beside_anybody_leaves_each_ad_alone():
    np.testing.assert_array_equal(catalogue([], ["a", "b"]).neighbours.toarray(), np.diag([1.0, 1.0, 0.0]))


@pytest.fixture(scope="module")
def learned(shown):
    """What a log of people who click one kind of ads teaches where nothing but their neighbours tells kinds apart."""
    examples, seen = shown
    near = [(ad, [other for other in IDS[n % 2 :: 2] if other != ad][:10], [0.5] * 10) for n, ad in enumerate(IDS)]
    made, columns = catalogue(near), np.empty((ADS + 1, 0))
    totals = Totals(*(np.append(one, 0.0) for one in totals_of(examples)))  # nobody was shown the search

    def train(names):
        return train_taste_ranker(made, ("title",), columns, names, examples, seen, totals, SETTINGS)

    return made, columns, train(Names(neighbours="co_click")), train(Names())


def test_a_taste_is_made_of_what_the_same_people_click(learned, shown):
    _, _, with_them, without = learned
    variances = with_them.ranker.variances
    assert kernel_group(SAME_PEOPLE) == PEOPLE
    assert variances[SAME_PEOPLE] > 3 * max(value for name, value in variances.items() if name != SAME_PEOPLE)
    assert SAME_PEOPLE not in without.ranker.variances
    clicked = shown[0].clicked

    def apart(found):
        return found.scored.score[clicked].mean() - found.scored.score[~clicked].mean()

    assert apart(with_them) > apart(without) + 0.3


def test_a_saved_ranker_reads_them_again(learned, tmp_path):
    made, columns, found, _ = learned
    found.ranker.save(tmp_path / "ranker")
    features = open_taste_ranker(str(tmp_path / "ranker")).reader.features(made, columns)
    kernel = pair_kernels(features, np.arange(ADS + 1), np.arange(ADS + 1))[features.names.index(SAME_PEOPLE)]
    np.testing.assert_allclose(kernel, (made.neighbours @ made.neighbours.T).toarray(), atol=1e-6)
    assert not kernel[-1].any()  # a search is like nothing


def test_the_words_of_a_reason_know_the_kernel_by_its_name():
    assert explanations.SAME_PEOPLE == SAME_PEOPLE


def test_a_ranker_of_before_there_were_neighbours_reads_none(learned, tmp_path):
    without = learned[3].ranker
    without.save(tmp_path / "ranker")
    numbers = json.loads((tmp_path / "ranker" / "ranker.json").read_text())
    del numbers["neighbours"]
    (tmp_path / "ranker" / "ranker.json").write_text(json.dumps(numbers))
    assert not open_taste_ranker(str(tmp_path / "ranker")).reader.neighbours


def test_a_catalogue_without_neighbours_is_refused_where_a_ranker_reads_them(learned):
    made, columns, found, _ = learned
    with pytest.raises(ModelError, match="expected them in the catalogue"):
        found.ranker.reader.features(replace(made, neighbours=None), columns)
