import numpy as np
import pytest

from llmrec_spark.config import MatchConfig
from llmrec_spark.model.match import Parameters, match_pairs
from llmrec_spark.model.reasons import KEYWORDS, Reason, list_reasons, set_off
from tests.model.catalogues import FIELDS, encoded, random_histories, random_world

PARTS = (*FIELDS, KEYWORDS)
DEFAULT = Parameters.of(MatchConfig())
SCALE = 0.35 / 0.07  # beta / sigma
EXACT = {"rel": 0, "abs": 1e-9}


@pytest.fixture(scope="module", params=range(3))
def pairs(request):
    """The terms of a user's pairs, with what each behaviour was."""
    world = random_world(request.param, ads=20)
    users = random_histories(request.param, world, users=4, longest=12)
    catalogue = world.catalogue()
    histories = encoded(users, catalogue)
    events = [event for user in users if user is not None for event in user]
    kept = [events[place] for place in histories.kept[histories.of(3)]]
    terms = match_pairs(catalogue, histories, 3, catalogue.live, DEFAULT, "cpu")
    has_text = (catalogue.fields[catalogue.live] >= 0).any(axis=1)
    return terms.match[has_text], terms.terms[:, :, has_text], [e.ad_id for e in kept], [e.event_type for e in kept]


def one_ad(parts, ad_ids, event_types, *, log_odds=1.0, scale=1.0):
    """Reasons of one ad, parts (T, 2): of the title and of the keywords."""
    terms = np.array(parts, dtype=float)[:, :, None]
    return list_reasons(terms, ad_ids, event_types, ["title", KEYWORDS], np.array([log_odds]), scale)[0]


def test_reasons_add_up_to_the_log_odds(pairs):
    _, terms, ad_ids, kinds = pairs
    log_odds = np.linspace(-4, 2, terms.shape[2])
    found = list_reasons(terms, ad_ids, kinds, PARTS, log_odds, SCALE)
    assert [sum(one.contribution for one in reasons) for reasons in found] == pytest.approx(log_odds, **EXACT)


def test_all_terms_together_are_beta_over_sigma_times_the_match(pairs, monkeypatch):
    match, terms, ad_ids, kinds = pairs
    monkeypatch.setattr("llmrec_spark.model.reasons.STORED", 10_000)
    found = list_reasons(terms, ad_ids, kinds, PARTS, np.zeros(len(match)), SCALE)
    stored = [sum(one.contribution for one in reasons[:-1]) for reasons in found]
    assert stored == pytest.approx(SCALE * match, **EXACT)


def test_at_most_five_are_stored_and_they_are_the_largest(pairs, monkeypatch):
    match, terms, ad_ids, kinds = pairs
    found = list_reasons(terms, ad_ids, kinds, PARTS, np.zeros(len(match)), SCALE)
    monkeypatch.setattr("llmrec_spark.model.reasons.STORED", 10_000)
    everything = list_reasons(terms, ad_ids, kinds, PARTS, np.zeros(len(match)), SCALE)
    largest = [sorted((abs(one.contribution) for one in reasons[:-1]), reverse=True)[:5] for reasons in everything]
    assert [[abs(one.contribution) for one in reasons[:-1]] for reasons in found] == largest


def test_no_reason_is_named_twice(pairs):
    match, terms, ad_ids, kinds = pairs
    for reasons in list_reasons(terms, ad_ids, kinds, PARTS, np.zeros(len(match)), SCALE):
        assert len({one[:3] for one in reasons}) == len(reasons)


def test_the_last_reason_is_what_the_stored_ones_leave():
    found = one_ad([[0.5, 0.25]], ["a"], ["click"], log_odds=2.0)
    assert found[-1] == Reason(None, None, "other", 1.25)


def test_a_reason_names_the_ad_the_event_and_the_field():
    found = one_ad([[0.5, 0.25]], ["a"], ["cart"])
    assert found[:2] == [Reason("a", "cart", "title", 0.5), Reason("a", "cart", "keywords", 0.25)]


def test_a_search_has_no_ad():
    assert one_ad([[0.5, 0.0]], [None], ["search"])[0] == Reason(None, "search", "title", 0.5)


def test_behaviours_of_one_ad_and_type_are_summed():
    found = one_ad([[0.5, 0.0], [0.25, 0.0]], ["a", "a"], ["click", "click"])
    assert found[:-1] == [Reason("a", "click", "title", 0.75)]


def test_types_of_event_are_kept_apart():
    found = one_ad([[0.5, 0.0], [0.25, 0.0]], ["a", "a"], ["click", "cart"])
    assert found[:-1] == [Reason("a", "click", "title", 0.5), Reason("a", "cart", "title", 0.25)]


def test_a_reason_against_an_ad_is_stored_with_its_sign():
    found = one_ad([[-0.5, 0.0], [0.25, 0.0]], ["a", "b"], ["click", "click"])
    assert [one.contribution for one in found[:-1]] == [-0.5, 0.25]


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 1, 0]])
def test_equal_parts_are_in_order_of_ad_and_type_whatever_the_history_s(order):
    events = [("a", "cart"), ("a", "click"), ("b", "cart")]
    ad_ids, kinds = zip(*[events[place] for place in order], strict=True)
    found = one_ad([[0.5, 0.0]] * 3, ad_ids, kinds)
    assert [one[:2] for one in found[:-1]] == events


def test_of_many_equal_parts_the_first_by_name_are_stored():
    ad_ids = [f"{number * 7 % 40:02d}" for number in range(40)]
    found = one_ad([[0.5, 0.0]] * 40, ad_ids, ["click"] * 40)
    assert [one.ad_id for one in found[:-1]] == ["00", "01", "02", "03", "04"]


def test_a_part_of_nothing_is_not_stored():
    assert len(one_ad([[0.0, 0.0]], ["a"], ["click"])) == 1


def test_the_scale_multiplies_every_part():
    assert one_ad([[0.5, 0.25]], ["a"], ["click"], scale=4.0)[0].contribution == 2.0


@pytest.mark.parametrize("parts, scale", [(np.zeros((0, 2)), 1.0), ([[0.5, 0.5]], 0.0)], ids=["cold", "no lift"])
def test_without_history_or_lift_everything_is_other(parts, scale):
    events = ["a"] * len(parts)
    assert one_ad(parts, events, events, log_odds=-3.0, scale=scale) == [Reason(None, None, "other", -3.0)]


def test_features_stand_after_the_behaviours_and_the_rest_after_them():
    terms = np.array([[0.5, 0.25]])[:, :, None]
    found = list_reasons(terms, ["a"], ["click"], ["title", "year"], np.array([2.0]), 1.0, {"effect": np.array([-1.0])})
    assert found == [
        [Reason("a", "click", "title", 0.5), Reason("a", "click", "year", 0.25), Reason(None, None, "effect", -1.0),
         Reason(None, None, "other", 2.25)]
    ]  # fmt: skip
    [nobody] = list_reasons(terms[:0], [], [], ["title", "year"], np.array([2.0]), 1.0, {"effect": np.array([-1.0])})
    assert nobody == [Reason(None, None, "effect", -1.0), Reason(None, None, "other", 3.0)]


def test_what_many_behaviours_say_for_and_against_is_set_off():
    terms = np.array([[3.0, -1.0, 0.0], [1.0, -1.0, 0.0], [-2.0, 1.0, 0.0]])[:, None, :]  # of three behaviours
    assert set_off(terms)[:, 0].T.tolist() == [[1.5, 0.5, 0.0], [-0.5, -0.5, 0.0], [0.0, 0.0, 0.0]]
    assert set_off(terms).sum(axis=0) == pytest.approx(terms.sum(axis=0), **EXACT)
    balanced = np.array([1.0, -1.0])[:, None, None]
    assert not set_off(balanced).any()
