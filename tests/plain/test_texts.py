import hashlib
import unicodedata

import pytest

from llmrec_spark.texts import field_keywords, field_text, normalise, text_hash, words


def escapes(*codes):
    """Characters by number: those that no editor shows."""
    return "".join(map(chr, codes))


@pytest.mark.parametrize(
    "text, plain",
    [
        ("", ""),
        ("Running Shoes", "Running Shoes"),
        ("Café naïve", "Café naïve"),
        ("Ｎｉｋｅ　１２３", "Nike 123"),
        ("ﬁne ①", "fine 1"),
        ("cafe" + escapes(0x301), "café"),
        ("e" + escapes(0x200B, 0x301), "é"),
    ],
    ids=["empty", "plain", "accents", "full width", "compatibility", "decomposed", "held apart by a zero-width space"],
)
def test_characters_are_in_their_composed_compatible_form_and_keep_their_case(text, plain):
    assert normalise(text) == plain


@pytest.mark.parametrize(
    "code", [0x00, 0x07, 0x7F, 0xAD, 0x200B, 0x200D, 0x202E, 0x2060, 0xFEFF, 0xD800, 0xE000, 0x378]
)
def test_a_character_nobody_sees_is_left_out(code):
    assert normalise(f"run{chr(code)}ning") == "running"


@pytest.mark.parametrize("code", [0x09, 0x0A, 0x0D, 0x1C, 0x85, 0xA0, 0x2009, 0x2028, 0x3000])
def test_every_kind_of_white_space_becomes_one_space(code):
    assert normalise(f"{chr(code)}red{chr(code)} {chr(code)}shoe{chr(code)}") == "red shoe"


@pytest.mark.parametrize(
    "text, plain",
    [
        ("Tom &amp; Jerry", "Tom & Jerry"),
        ("5 &lt; 6 &#39;s", "5 < 6 's"),
        ("run&#8203;ning&nbsp;shoe", "running shoe"),
        ("&#xFF2E;ike", "Nike"),
        ("R&D costs 5 & up", "R&D costs 5 & up"),
    ],
)
def test_entities_become_what_they_stand_for(text, plain):
    assert normalise(text) == plain


@pytest.mark.parametrize(
    "text, plain",
    [
        ("<b>new</b> shoe", "new shoe"),
        ("red<br/>shoe", "red shoe"),
        ('<a href="x"\nclass="y">shoe</a>', "shoe"),
        ("red <!-- <b>hidden</b>\n --> shoe", "red shoe"),
        ("&lt;b&gt;new&lt;/b&gt;", "new"),
        ("＜b＞new＜/b＞", "new"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("I <3 shoes", "I <3 shoes"),
    ],
)
def test_tags_and_comments_are_stripped_and_other_brackets_stay(text, plain):
    assert normalise(text) == plain


def test_a_tag_broken_by_an_invisible_character_is_still_stripped():
    assert normalise(f"<{chr(0x200B)}b>new") == "new"


def test_whatever_stands_in_a_text_it_comes_out_composed():
    pairs = [f"e{chr(code)}{chr(0x301)}" for code in range(0x20, 0x3100)]
    assert [ascii(text) for text in pairs if not unicodedata.is_normalized("NFKC", normalise(text))] == []


@pytest.mark.parametrize(
    "text, expected",
    [
        ("", []),
        ("... !?", []),
        ("Running shoes, light", ["running", "shoes", "light"]),
        ("foo_bar wi-fi", ["foo", "bar", "wi", "fi"]),
        ("red red RED", ["red", "red", "red"]),
        ("Straße", ["strasse"]),
        ("Кроссовки мужские", ["кроссовки", "мужские"]),
        ("서울 여행", ["서울", "여행"]),
    ],
)
def test_words_are_case_folded_and_in_order_with_repeats(text, expected):
    assert words(text) == expected


def test_numbers_are_words():
    assert words("iPhone15 128 GB") == ["iphone15", "128", "gb"]


@pytest.mark.parametrize("apostrophe", ["'", "’"])
def test_a_possessive_is_one_word_however_its_apostrophe_is_typed(apostrophe):
    assert words(f"Men{apostrophe}s O{apostrophe}Brien{apostrophe}s shoes") == ["men's", "o'brien's", "shoes"]


def test_quotation_marks_are_no_part_of_a_word():
    assert words("'new' ‘shoes’ 'n'") == ["new", "shoes", "n"]


@pytest.mark.parametrize("text", ["हिन्दी शब्द", "कुर्ता", "กรุงเทพ", "مُحَمَّد"])
def test_vowel_signs_do_not_split_a_word(text):
    assert words(text) == text.split()


@pytest.mark.parametrize("text", ["the and of it's it’s", "The AND", "的 和 我们", "我们的"])
def test_stop_words_are_left_out(text):
    assert words(text) == []


def test_chinese_is_segmented():
    assert words("男士跑鞋透气轻便") == ["男士", "跑鞋", "透气", "轻便"]


def test_chinese_and_english_keep_their_order_in_a_mixed_text():
    assert words("Nike男士跑鞋 Air Max 2026新款") == ["nike", "男士", "跑鞋", "air", "max", "2026", "新款"]


def test_segmenting_twice_gives_the_same_words():
    assert words("春季新款女装连衣裙") == words("春季新款女装连衣裙")


@pytest.mark.parametrize(
    "values, text",
    [([], ""), (["  "], ""), (["shoes"], "shoes"), (["Red  Shoes", "<br>", "men"], "Red Shoes, men")],
)
def test_a_field_reads_as_one_sentence_of_its_phrases(values, text):
    assert field_text(values) == text


@pytest.mark.parametrize("field", ["title", "description"])
def test_prose_gives_its_words(field):
    assert field_keywords(field, ["Red <b>Shoes</b> for men", "red"]) == ["red", "shoes", "men", "red"]


@pytest.mark.parametrize("field", ["tags", "category", "people"])
def test_a_list_gives_its_whole_phrases(field):
    assert field_keywords(field, ["Running  Shoes", "", "The Who"]) == ["running shoes", "the who"]


def test_no_phrase_gives_no_keyword():
    assert field_keywords("title", []) == field_keywords("tags", []) == []


def test_a_hash_is_the_sha_256_of_the_text():
    assert text_hash("男鞋") == hashlib.sha256("男鞋".encode()).hexdigest()


def test_half_a_surrogate_pair_has_a_hash():
    assert len(text_hash("a" + chr(0xD800))) == 64
