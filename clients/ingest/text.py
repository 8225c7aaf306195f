"""From raw text to clean text, and from clean text to words.

Invariants: `clean_text` returns NFKC text without markup, control characters and bidirectional overrides, in time
linear in its length. Text is cut at `MAX_LETTERS`: a text of a megabyte isn't a review.

>>> clean_text("<b>Ｇｏｏｄ</b>&nbsp;bag\u202e!")
'Good bag !'
>>> words("The shoes are running small", "en")
['shoe', 'run', 'small']
"""

from __future__ import annotations

import functools
import html
import re
import unicodedata
from collections.abc import Callable

import rjieba
import snowballstemmer

MAX_LETTERS = 20_000
_BLOCK = re.compile(r"<(script|style)\b[^<>]{0,200}>[^<]{0,5000}</\1\s{0,5}>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z!][^<>]{0,500}>")
_BREAK = re.compile(r"[ \t\u00a0]+")
# Controls but not line ends; soft hyphen, zero width, bidi marks and overrides; byte order mark; private use.
_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff0-\ufffb\ue000-\uf8ff]"
)
_TOKEN = re.compile(r"[\u3400-\u9fff]+|[^\W\d_]+(?:['’][^\W\d_]+)?|\d+")
_HAN = re.compile(r"[\u3400-\u9fff]")
_STEMMERS = {"en": "english", "de": "german", "fr": "french", "es": "spanish", "it": "italian", "nl": "dutch"}
_STOP_LIST = """
a an and are as at be been but by for from had has have he her his i in is it its me my of on or our she so that the
their them they this to was we were will with you your
的 了 是 我 也 在 就 都 和 很 有 这 那 你 他 她 它 们 我们 一个 还 吧 吗 呢 啊 着 被 把 与 及 又 给 让 到 上 个
"""
_STOP = frozenset(_STOP_LIST.split())


def clean_text(text: str) -> str:
    """One text without markup, hidden characters and needless space; empty if nothing is left."""
    text = _BLOCK.sub(" ", text[:MAX_LETTERS])
    # Shops export text escaped once or twice: "&amp;lt;b&amp;gt;".
    for _ in range(2):
        text = html.unescape(_TAG.sub(" ", text))
    text = unicodedata.normalize("NFKC", _HIDDEN.sub(" ", _TAG.sub(" ", text)))
    lines = (_BREAK.sub(" ", line).strip() for line in _HIDDEN.sub(" ", text).split("\n"))
    return "\n".join(line for line in lines if line)


def words(text: str, language: str = "en", *, stem: bool = True, drop_stop_words: bool = True) -> list[str]:
    """The words of a text: Chinese by a segmenter, other scripts by letters, stemmed if there is a stemmer.

    Negations stay, since a complaint without them would read as praise.
    """
    pieces: list[str] = []
    for piece in _TOKEN.findall(unicodedata.normalize("NFKC", text).casefold()):
        pieces += rjieba.cut(piece) if _HAN.match(piece) else [piece]
    if drop_stop_words:
        pieces = [word for word in pieces if word not in _STOP]
    stemmer = _stemmer(language.partition("-")[0]) if stem else None
    return pieces if stemmer is None else [word if _HAN.match(word) else stemmer(word) for word in pieces]


@functools.cache
def _stemmer(language: str) -> Callable[[str], str] | None:
    # Chinese shops write their Latin words in English.
    name = _STEMMERS.get("en" if language == "zh" else language)
    return snowballstemmer.stemmer(name).stemWord if name else None
