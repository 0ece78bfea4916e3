"""Text as data: normalised, segmented into keywords, hashed. Plain functions on strings, the same in every process."""

from __future__ import annotations

import functools
import hashlib
import html
import logging
import re
import unicodedata
from collections.abc import Callable, Iterable

MARKUP = re.compile(r"<!--.*?-->|</?[a-zA-Z][^<>]*>", re.DOTALL)
HAN = r"\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
MARKS = "".join(c for c in map(chr, range(0x300, 0x10000)) if unicodedata.category(c).startswith("M"))  # not in \w
LETTERS = rf"(?:(?![{HAN}_])\w[{MARKS}]*)+"  # with the accents and vowel signs that follow them
WORD_OR_HAN = re.compile(rf"(?P<han>[{HAN}]+)|(?P<word>{LETTERS}(?:'{LETTERS})*)")
WORD_FIELDS = ("title", "description")  # read word by word; the other fields hold whole phrases

STOP_WORDS = frozenset(
    """
    a about above after again against all also am an and any are as at be because been before being below between both
    but by can could did do does doing down during each few for from further had has have having he her here hers him
    his how i if in into is it it's its just me more most my no nor not now of off on once only or other our ours out
    over own per same she should so some such than that the their theirs them then there these they this those through
    to too under until up us very via was we were what when where which while who whom why will with without would you
    your yours
    的 了 和 是 在 有 我 你 您 他 她 它 们 我们 你们 他们 她们 它们 这 那 这个 那个 这些 那些 就 都 而 及 与 或
    或者 并 并且 也 还 又 再 很 更 最 太 不 没 没有 被 把 让 使 给 对 从 向 到 由 以 为 为了 于 等 等等 之 其 其中
    此 该 各 每 某 上 下 中 里 内 外 前 后 时 将 要 会 能 可 可以 能够 应 应该 吗 呢 吧 啊 呀 哦 嗯 么 什么 怎么
    如何 因为 所以 但 但是 如果 虽然 而且 只 只是 就是 还是 不是 一个 一些 一种 个 种 些 着 过 地 得 所 则 且 即 若
    如 比 像 跟 同 用 自己 已 已经 正在
    """.split()
)


def normalise(text: str) -> str:
    """One line of plain text: NFKC, HTML unescaped and tags stripped, invisible and control characters out.

    White space is folded to single spaces. Case and accents stay: they are the tokenizer's business.
    """
    text = html.unescape(unicodedata.normalize("NFKC", text))
    visible = "".join(
        character
        for character in text
        if character.isspace() or unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Co", "Cn")
    )
    text = unicodedata.normalize("NFKC", visible)  # what entities stood for, and what something invisible kept apart
    return " ".join(MARKUP.sub(" ", text).split())


def text_hash(text: str) -> str:
    """SHA-256 of the UTF-8 text, as hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def words(text: str) -> list[str]:
    """The words of a normalised text in order, case folded, without stop words: jieba for Chinese, Unicode words else.

    A typographic apostrophe counts as a plain one.
    """
    found: list[str] = []
    for run in WORD_OR_HAN.finditer(text.casefold().replace("’", "'")):
        found.extend(_chinese_segmenter()(run[0]) if run["han"] else [run[0]])
    return [word for word in found if word not in STOP_WORDS]


def field_text(values: Iterable[str]) -> str:
    """What an encoder reads of a field that holds several phrases: the normalised phrases as one sentence."""
    return ", ".join(phrase for phrase in map(normalise, values) if phrase)


def field_keywords(field: str, values: Iterable[str]) -> list[str]:
    """The keywords of one field: its words where it is prose, its whole phrases where it is a list."""
    if field in WORD_FIELDS:
        return [word for value in values for word in words(normalise(value))]
    return [phrase.casefold() for phrase in map(normalise, values) if phrase]


@functools.cache
def _chinese_segmenter() -> Callable[[str], list[str]]:
    import jieba  # type: ignore[import-untyped]  # its dictionary takes a second: only where there is Chinese

    jieba.setLogLevel(logging.WARNING)
    segment: Callable[[str], list[str]] = jieba.Tokenizer().lcut
    return segment
