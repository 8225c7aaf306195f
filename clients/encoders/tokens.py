"""Hashed tokens for encoders trained from scratch, so that the sites need no common vocabulary.

NFKC → Han characters as 1- and 2-grams, other scripts as lower-case words → a public hash into buckets. Bucket 0 is
padding.
"""

from __future__ import annotations

import re
import unicodedata
import zlib

import numpy as np
from numpy.typing import NDArray

_RUNS = re.compile(r"[㐀-鿿豈-﫿]+|[^\W_]+")
_HAN = re.compile(r"[㐀-鿿豈-﫿]")


def tokens(text: str) -> list[str]:
    """Tokens of a text, in order.

    >>> tokens("Red 连衣裙")
    ['red', '连', '连衣', '衣', '衣裙', '裙']
    """
    parts: list[str] = []
    for run in _RUNS.findall(unicodedata.normalize("NFKC", text).lower()):
        if not _HAN.match(run):
            parts.append(run)
            continue
        for at, character in enumerate(run):
            parts.append(character)
            if at + 1 < len(run):
                parts.append(run[at : at + 2])
    return parts


def hash_tokens(texts: list[str], buckets: int, length: int) -> NDArray[np.int64]:
    """(n, length) bucket numbers 1 … buckets-1, zero-padded on the right."""
    numbers_of_rows = np.zeros((len(texts), length), np.int64)
    for row, text in enumerate(texts):
        numbers = [1 + zlib.crc32(t.encode()) % (buckets - 1) for t in tokens(text)[:length]]
        numbers_of_rows[row, : len(numbers)] = numbers
    return numbers_of_rows
