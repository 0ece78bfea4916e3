import re
from dataclasses import replace

import pytest

from llmrec_spark.report_words import check_label, interval, verdict
from llmrec_spark.reports import render_editions, render_report
from tests.reported_day import USER, evaluations, examples, nothing_known, reported_day


@pytest.fixture(scope="module")
def page():
    return render_report(reported_day())


def words(page):
    """What a reader sees, without tags, styles and drawings."""
    visible = re.sub(r"(?s)<(style|svg|title)\b.*?</\1>", " ", page)
    return " ".join(re.sub(r"<[^>]+>", " ", visible).split())


def test_a_page_needs_nothing_from_elsewhere(page):
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)[^"']*""", re.sub(r"(?s)<svg.*?</svg>", "", page))
    assert not re.findall(r"""url\(\s*["']?(?!#)|@import|<script|<iframe""", page)
    linked = re.findall(r"""(?:xlink:)?href\s*=\s*["']([^"']*)""", page)
    assert all(link.startswith(("#", "data:")) for link in linked)


def test_the_headline_numbers_stand_there_with_their_intervals(page):
    text = words(page)
    for number in ("2.13 %", "6.95 %", "1,829", "1.652", "0.619"):
        assert number in text, number
    assert "1.99 to 2.27 %" in text


def test_a_difference_says_in_words_whether_its_interval_excludes_0(page):
    assert "better: the interval excludes 0" in words(page)


def test_variety_stands_beside_its_baselines_and_groups_of_ads_beside_their_share_of_the_ads(page):
    text = words(page)
    assert "Coverage@10 of the live ads, those in the top of some list 84.21 % n 20,000 3.91 % 100.00 %" in text
    assert "11.73 % 11.11 to 12.35 %, n 2,000 33.33 % 32.62 to 34.04 % –" in text
    assert "category: Books &amp; &lt;paper&gt; 27.18 % 26.78 to 27.58 %, n 20,000 – 5.77 %" in text


def test_alerts_are_told_by_a_word_and_counted_first(page):
    text = words(page)
    assert "2 drift alerts" in text
    assert "0.31 is above the bound of 0.2" in text


def test_what_was_not_computed_is_listed_with_the_reason(page):
    assert "p_conversion is NULL: no calibrated model scored." in words(page)


def test_what_the_lists_would_have_earned_stands_beside_what_was_earned(page):
    text = words(page)
    assert "As it was what was earned at the same positions 2.13 % 1.95 to 2.31 %" in text
    assert "Doubly robust the direct method, its errors corrected by IPS 2.41 %" in text
    assert "Effective sample impressions that the weights leave 413" in text
    rows = evaluations()
    without = words(render_report(reported_day(evaluations=rows[~rows["metric"].str.startswith("off_policy")])))
    assert "The log has no propensities." in without


def test_the_same_data_gives_the_same_bytes(page):
    assert render_report(reported_day()) == page


def test_no_user_is_in_a_report_without_examples(page):
    assert USER not in page
    without, with_examples = render_editions(reported_day(examples=examples()))
    assert without == page
    assert USER in with_examples


def test_text_of_ads_is_escaped():
    page = render_report(reported_day(examples=examples()))
    assert "<script>alert(1)</script>" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<img src=x" not in page


def test_a_day_of_which_nothing_is_known_says_so():
    text = words(render_report(nothing_known()))
    assert "Nothing was evaluated on this day." in text
    assert "p_click is NULL: no calibrated model scored." in text
    assert "nan" not in text.lower().split()


def test_the_first_evaluated_day_has_no_change():
    day = reported_day()
    text = words(render_report(replace(day, previous=day.previous[:0])))
    assert "No day before was evaluated" in text


def test_an_unknown_number_is_a_dash():
    rows = evaluations()
    rows.loc[rows["metric"] == "roi", ["value", "low", "high"]] = float("nan")
    assert re.search(r"ROI revenue against cost –", words(render_report(reported_day(evaluations=rows))))


def test_what_sums_of_doubles_leave_of_nothing_is_nothing():
    assert interval(-2e-17, 3e-17, "share", signed=True) == "0.00 to 0.00 %"
    assert verdict(1e-17, 2e-17)[0] == verdict(-2e-17, -1e-17)[0] == "open"


def test_a_check_is_called_by_words():
    names = ("rows.events.click", "null.cost.click", "new.ads", "ks.p_click", "other.thing")
    assert [check_label(name) for name in names] == [
        "Rows: events, click",
        "Without cost, click",
        "New ads",
        "Distance of p click (KS)",
        "other thing",
    ]
