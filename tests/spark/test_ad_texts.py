import pytest

from llmrec_spark.ad_texts import ad_texts, document_frequency, field_texts, text_counts
from llmrec_spark.tables import AD_TEXTS
from llmrec_spark.texts import text_hash
from tests.spark.rows import ads_of

FIELDS = ("title", "description", "tags")


def read(spark, *ads, fields=FIELDS, max_characters=2_000, partitions=1):
    return field_texts(ads_of(spark, *ads).repartition(partitions), fields=fields, max_characters=max_characters)


def by_field(texts):
    return {row.field: row for row in texts.collect()}


def counts(texts):
    [row] = text_counts(texts).collect()
    return row.asDict()


def test_a_text_is_normalised_hashed_and_split_into_keywords(spark):
    [row] = ad_texts(read(spark, {"ad_id": "a", "title": " Ｔrail &amp; <b>road</b>\nshoes "})).collect()
    assert row.asDict() == {
        "ad_id": "a",
        "field": "title",
        "text": "Trail & road shoes",
        "text_hash": text_hash("Trail & road shoes"),
        "keywords": ["trail", "road", "shoes"],
    }


def test_the_columns_are_those_of_the_contract(spark):
    found = ad_texts(read(spark, {"ad_id": "a", "title": "t"}))
    assert dict(found.dtypes) == {c.name: c.kind for c in AD_TEXTS.columns if c.name != "run_id"}


def test_a_list_is_one_sentence_and_its_phrases_are_the_keywords(spark):
    row = by_field(read(spark, {"ad_id": "a", "tags": ["Trail Running", None, " ", "越野跑"]}))["tags"]
    assert (row.text, row.keywords) == ("Trail Running, 越野跑", ["trail running", "越野跑"])


def test_a_title_in_chinese_is_segmented(spark):
    assert by_field(read(spark, {"ad_id": "a", "title": "运动跑鞋男"}))["title"].keywords == ["运动", "跑鞋", "男"]


def test_a_null_field_has_no_row_and_the_order_of_ads_does_not_matter(spark):
    ads = [{"ad_id": "a", "title": "t"}, {"ad_id": "b", "tags": ["x"]}, {"ad_id": "c"}]
    found = read(spark, *ads, partitions=5).collect()
    assert {(row.ad_id, row.field) for row in found} == {("a", "title"), ("b", "tags")}


def test_only_the_fields_asked_for_are_read(spark):
    assert list(by_field(read(spark, {"ad_id": "a", "title": "t", "tags": ["x"]}, fields=["tags"]))) == ["tags"]


def test_long_texts_are_cut_and_counted_and_their_keywords_follow_the_cut(spark):
    texts = read(spark, {"ad_id": "a", "title": "red shoes", "description": "red"}, max_characters=4).cache()
    found = by_field(texts)
    assert (found["title"].text, found["title"].keywords, found["title"].is_truncated) == ("red", ["red"], True)
    assert not found["description"].is_truncated
    assert counts(texts)["truncated_texts"] == 1


def test_a_list_that_is_cut_keeps_the_phrases_that_fit(spark):
    row = by_field(read(spark, {"ad_id": "a", "tags": ["red", "light, airy", "cheap"]}, max_characters=18))["tags"]
    assert (row.text, row.keywords) == ("red, light, airy,", ["red", "light, airy"])


@pytest.mark.parametrize("ad", [{"title": " "}, {"title": "<br>"}, {"tags": []}, {"tags": [None, ""]}])
def test_a_text_that_is_empty_once_normalised_is_counted_and_not_read(spark, ad):
    texts = read(spark, {"ad_id": "a"} | ad).cache()
    assert [(row.text, row.keywords) for row in texts.collect()] == [("", [])]
    assert ad_texts(texts).count() == 0
    assert counts(texts) == {"truncated_texts": 0, "empty_texts": 1, "doubled_texts": 0}


def test_a_text_of_several_ads_is_counted_as_doubled_in_the_same_field_only(spark):
    ads = [{"ad_id": ad_id, "title": "Shoes"} for ad_id in "abc"]
    texts = read(spark, *ads, {"ad_id": "d", "description": "Shoes"}, {"ad_id": "e", "title": " "}, {"ad_id": "f"})
    assert counts(texts)["doubled_texts"] == 2


def test_no_ads_have_no_texts(spark):
    texts = read(spark).cache()
    assert texts.count() == 0
    assert counts(texts) == {"truncated_texts": 0, "empty_texts": 0, "doubled_texts": 0}
    assert document_frequency(ad_texts(texts)).count() == 0


def test_a_keyword_counts_once_per_ad(spark):
    texts = read(spark, {"ad_id": "a", "title": "red red", "tags": ["red"]}, {"ad_id": "b", "title": "Red shoes"})
    found = document_frequency(ad_texts(texts)).collect()
    assert {row.keyword: row.ads for row in found} == {"red": 2, "shoes": 1}
