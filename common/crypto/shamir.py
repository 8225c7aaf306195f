"""Shamir's secret sharing over GF(2⁸), byte by byte and for strings of any length (Shamir 1979).

Invariant: any `threshold` shares give the secret back exactly; fewer reveal nothing about it. Random coefficients come
from the operating system.

>>> shares = split(b"salt", threshold=2, count=3)
>>> join({1: shares[1], 3: shares[3]})
b'salt'
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache

import numpy as np
from numpy.typing import NDArray

from common.errors import WireError

MAX_SHARES = 255
Bytes = NDArray[np.uint8]


def split(secret: bytes, threshold: int, count: int) -> dict[int, bytes]:
    """Shares 1 … count of a secret, each as long as the secret.

    Raises
    ------
    WireError : the threshold or the number of shares is out of range.
    """
    if not 1 <= threshold <= count <= MAX_SHARES:
        raise WireError(f"{threshold} of {count} shares can't be made", where="shares")
    coefficients = np.frombuffer(os.urandom((threshold - 1) * len(secret)), dtype=np.uint8)
    rows = [np.frombuffer(secret, dtype=np.uint8), *coefficients.reshape(threshold - 1, len(secret))]
    shares = {}
    for place in range(1, count + 1):
        value = np.zeros(len(secret), dtype=np.uint8)
        for row in reversed(rows):
            value = _times(value, place) ^ row
        shares[place] = value.tobytes()
    return shares


def join(shares: Mapping[int, bytes]) -> bytes:
    """The secret, from at least `threshold` shares by place.

    Raises
    ------
    WireError : there are no shares, they differ in length, or a place is impossible.
    """
    if not shares or len({len(share) for share in shares.values()}) != 1:
        raise WireError("the shares are missing or differ in length", where="shares")
    if any(not 1 <= place <= MAX_SHARES for place in shares):
        raise WireError("a share has an impossible place", where="shares")
    secret = np.zeros(len(next(iter(shares.values()))), dtype=np.uint8)
    for place, share in shares.items():
        weight = 1
        for other in shares:
            if other != place:
                weight = _product(weight, _product(other, _inverse(other ^ place)))
        secret ^= _times(np.frombuffer(share, dtype=np.uint8), weight)
    return secret.tobytes()


def _product(a: int, b: int) -> int:
    """a·b modulo x⁸ + x⁴ + x³ + x + 1."""
    total = 0
    while b:
        total ^= a if b & 1 else 0
        a = (a << 1) ^ (0x11B if a & 0x80 else 0)
        b >>= 1
    return total


@cache
def _inverse(a: int) -> int:
    power = 1
    for _ in range(254):  # a^254 = a^-1
        power = _product(power, a)
    return power


def _times(values: Bytes, factor: int) -> Bytes:
    return _multiples(factor)[values]


@cache  # 256 tables of 256 bytes at most
def _multiples(factor: int) -> Bytes:
    return np.array([_product(value, factor) for value in range(256)], dtype=np.uint8)
