"""Published reasons in words."""

import pytest
from pyspark.sql import Row

from llmrec_spark.explanations import reasons_in_words
from llmrec_spark.model.network_batches import TEXT_ROLES


def row_with(*reasons):
    names = ("ad_id", "event_type", "field", "contribution")
    return Row(ad_id="a", rate=0.25, reasons=[Row(**dict(zip(names, one, strict=True))) for one in reasons])


@pytest.mark.parametrize(
    "reason, words",
    [
        ((TEXT_ROLES[0], 0.5), "because of what you clicked lately (read as one text, +0.50)"),
        ((TEXT_ROLES[1], -0.25), "in spite of what you passed over lately (read as one text, -0.25)"),
        (("effect", 1.5), "because people click it (+1.50 of log-odds)"),
        (("other", 0.5), "because people click it: rate 0.250"),
    ],
)
def test_what_no_single_behaviour_says_has_words_of_its_own(reason, words):
    field, contribution = reason
    assert reasons_in_words(row_with((None, None, field, contribution)), words=None) == words


def test_the_largest_reasons_are_told_whichever_kind_they_are():
    behaved = [(None, "click", "title", 0.3), (None, "click", "tags", 0.2)]  # behaviours come first in a row
    said = reasons_in_words(row_with(*behaved, (None, None, TEXT_ROLES[1], -0.25)), words=None)
    assert said == (
        "because you clicked something like it (its title, +0.30); "
        "in spite of what you passed over lately (read as one text, -0.25)"
    )
