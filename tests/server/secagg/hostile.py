"""Bytes that an insider might sign: what was found to crash parsers, and drawn damage to real ciphertexts."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from functools import cache

Damage = Callable[[bytearray, list[bytes], random.Random], bytes]
_SIZES = (0, 1, 2**31, 2**32 - 1, 2**40, 2**63, 2**64 - 1)


def damaged(good: list[bytes], kind: str, chance: random.Random) -> list[bytes]:
    """An upload of which one ciphertext is made bad."""
    bad, place = list(good), chance.randrange(len(good))
    bad[place] = KINDS[kind](bytearray(good[place]), good, chance)
    return bad


def _tiny(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """Protobufs of a few bytes: four crash TenSEAL's BFV addition, thirteen its CKKS."""
    size = chance.choice([0, 1, 4, 13])
    return bytes([0x0A, 0x02, 0x08, 0x01, 0x12, 0x00, 0x19] + [0] * 8)[:size] or b""


def _empty_vector(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """The frame of a vector without its ciphertext, filled up to a possible length."""
    return b"\x0a\x02\x80\x20" + bytes(len(part) - 4)


def _sizes(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """Forged sizes, in the frame, the header and SEAL's own fields."""
    at = chance.randrange(0, 120)
    part[at : at + 8] = chance.choice(_SIZES).to_bytes(8, "little")
    return bytes(part)


def _bomb(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """Zeros, which expand a thousandfold, behind a header that says how they're compressed."""
    header, packed = bytearray(part[:16]), _zeros()
    header[5] = chance.choice([0, 1, 2])
    header[8:16] = len(part).to_bytes(8, "little")
    return bytes(header) + (packed + bytes(len(part)))[: len(part) - 16]


@cache
def _zeros() -> bytes:
    return zlib.compress(bytes(32 << 20), 9)


def _many_small(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """Repeated fields where one is expected: 0.4 MB of such expanded to 1.5 GB."""
    return (bytes(part[:8]) * (len(part) // 8 + 1))[: len(part)]


def _cut(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    return bytes(part[: chance.randrange(len(part))])


def _longer(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    return bytes(part) + chance.randbytes(chance.choice([1, 100, 1 << 20]))


def _flip_head(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    part[chance.randrange(120)] ^= 1 << chance.randrange(8)
    return bytes(part)


def _flips(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    for _ in range(chance.randrange(1, 50)):
        part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
    return bytes(part)


def _method(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    """It says that it's compressed by a method that it isn't, or that there isn't."""
    at = chance.choice([5, 13])
    part[at] = (part[at] + chance.randrange(1, 256)) % 256
    return bytes(part)


def _splice(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    cut = chance.randrange(len(part))
    return bytes(part[:cut]) + good[chance.randrange(len(good))][cut:]


def _random(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    return chance.randbytes(chance.choice([0, 4, 13, 64, len(part), len(part) + 1]))


def _random_body(part: bytearray, good: list[bytes], chance: random.Random) -> bytes:
    start = chance.choice([16, 24, 110])
    return bytes(part[:start]) + chance.randbytes(len(part) - start)


KINDS: dict[str, Damage] = {
    "tiny": _tiny, "empty vector": _empty_vector, "sizes": _sizes, "bomb": _bomb, "many small": _many_small,
    "cut": _cut, "longer": _longer, "flip in the head": _flip_head, "flips": _flips, "method": _method,
    "splice": _splice, "random": _random, "random body": _random_body,
}  # fmt: skip
"""Flips and splices of a body may give a ciphertext that can be parsed: noise, which the signature keeps out."""

HARMLESS = ("flips", "splice", "random body", "flip in the head", "sizes")
