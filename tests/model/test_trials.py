"""What a search of settings goes by, and the search itself with the real ranker: on the small world."""

import numpy as np
import pytest

from llmrec_spark.model.trials import validating_lists, validation_ndcg, without_test
from llmrec_spark.search_config import SearchConfig
from llmrec_spark.settings_search import Budget, open_study
from tests.model.small_world import ADS, SETTINGS


@pytest.fixture(scope="module")
def split(shown):
    """The examples, of whose last day every third user is kept for a test, and what was shown before."""
    examples, before = shown
    before = before._replace(texts=np.arange(2.0 * len(before.offsets) - 2).reshape(-1, 2, 1))
    return examples._replace(calibrates=examples.calibrates & (examples.user % 3 > 0)), before


def test_the_lists_that_are_left_have_the_rows_and_histories_they_had(split):
    examples, before = split
    less, shown = without_test(examples, before)
    kept = examples.trains | examples.calibrates
    assert not kept.all()
    assert len(less.item) == kept.sum()
    assert less.list.tolist() == sorted(less.list.tolist())
    assert len(shown.offsets) == less.list[-1] + 2
    for new, old in enumerate(np.unique(examples.list[kept])):
        assert (less.item[less.list == new] == examples.item[examples.list == old]).all()
        ours = slice(*shown.offsets[new : new + 2])
        theirs = slice(*before.offsets[old : old + 2])
        assert (shown.item[ours] == before.item[theirs]).all()
        assert (shown.clicked[ours] == before.clicked[theirs]).all()
        assert (shown.texts[new] == before.texts[old]).all()


def test_a_figure_is_the_same_whatever_the_rows_of_the_test_say(split, train):
    examples, before = split
    test = ~(examples.trains | examples.calibrates)
    other = examples._replace(
        item=np.where(test, (examples.item * 7 + 3) % ADS, examples.item), clicked=examples.clicked ^ test
    )
    settings = SETTINGS.model_copy(update={"rerank": ("linear",)})
    first, second = (
        validation_ndcg(train(settings, *part), part[0], k=3)
        for part in (without_test(examples, before), without_test(other, before))
    )
    assert first == second > 0.5


def test_only_lists_with_a_click_and_without_one_validate(split):
    examples, _ = split
    judges = validating_lists(examples)
    assert judges.any()
    assert not (judges & ~examples.calibrates).any()
    for one in np.unique(examples.list[examples.calibrates]):
        clicked = examples.clicked[examples.list == one]
        assert judges[examples.list == one].all() == (clicked.any() and not clicked.all())


def test_without_such_lists_there_is_no_figure(split, train):
    examples, before = split
    none = examples._replace(calibrates=np.zeros(len(examples.item), dtype=bool))
    less = without_test(none, before)
    assert np.isnan(validation_ndcg(train(SETTINGS, *less), less[0], k=3))


def test_the_weights_of_a_reranker_are_of_other_people_than_those_it_is_judged_on(split, train):
    """So clicks of one half decide the order of the other: with theirs turned round, the first half's figure moves."""
    examples, before = without_test(*split)
    trained = train(SETTINGS.model_copy(update={"rerank": ("linear",)}), examples, before)
    half = examples.calibrates & (examples.user % 2 == 0)
    turned = examples._replace(clicked=examples.clicked ^ (examples.calibrates & (examples.user % 2 == 1)))
    judged = [one._replace(calibrates=half) for one in (examples, turned)]
    alike = [validation_ndcg(trained, one, k=3) for one in judged]  # without the others, their clicks are not read
    assert alike[0] == alike[1]
    weighed = [validation_ndcg(trained, one, k=3) for one in (examples, turned)]
    assert weighed[0] > 0.6 > weighed[1]


def test_a_search_of_the_ranker_gives_the_same_trials_again_and_the_best_of_them(split, train, tmp_path):
    examples, before = without_test(*split)
    own = SETTINGS.model_copy(update={"columns": ("length",), "groups": ("maker",)})
    ranges = SearchConfig(text_rank=(2, 8), rerank=((), ("linear",)), leave_out=False)

    def searched(name):
        with open_study(tmp_path / name, own, ranges) as study:
            return study.search(
                lambda settings: validation_ndcg(train(settings, examples, before), examples, k=3),
                Budget(4),
                told=lambda trial: None,
            )

    one, other = searched("one.db"), searched("other.db")
    assert [(trial.settings, trial.ndcg) for trial in one.trials] == [(t.settings, t.ndcg) for t in other.trials]
    assert one.chosen.ndcg == max(trial.ndcg for trial in one.trials)
    assert one.settings.text_rank == one.chosen.settings["text_rank"]
    assert one.settings.columns == ("length",)
    assert one.settings.kernel_lists == SETTINGS.kernel_lists
