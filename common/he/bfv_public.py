"""BFV through TenSEAL's public interface, for builds without the raw SEAL objects: the same words, the same exact sums.

A ciphertext is TenSEAL's message of one vector of 4,096 words (128-bit level, primes of 60 and 49 bits): twice as long
as a seeded one, in both directions.

**TenSEAL's parsers trust what they read**: four bytes can crash them, and forged sizes make them read foreign memory.
So all of this, keys too (`apart`), runs only in a process with little memory. A message is checked in three steps:
byte by byte against the one frame that 4,096 words have, then its SEAL header, then the parts of the parsed object.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tenseal as ts

from common.crypto.fields import MODULUS, Words
from common.errors import WireError
from common.he import cipher
from common.he.cipher import Buffer, Values
from common.he.seal_files import check_header

DEGREE = 4096
PRIMES = [60, 49]
PARAMETERS = f"BFV/{DEGREE}/{PRIMES}/{MODULUS}/public"
_SIZES = b"\x0a\x02\x80\x20\x12"  # field 1: one size, 4096; then field 2: the ciphertext, after its length
_LENGTH = 3  # bytes of a varint from 16,384 to 2,097,151
_BOUNDS = (60_000, 68_000)


class Scheme(cipher.Scheme):
    """The one set of parameters of this fallback."""

    parameters, slots, apart = PARAMETERS, DEGREE, True
    fresh_bytes = sum_bytes = _BOUNDS

    def __init__(self) -> None:
        self.context = _context()
        self._form = _form(ts.bfv_vector(self.context, [0] * DEGREE))

    def key(self, secret: bytes | None = None) -> Key:
        return Key(self, secret)

    def sum(self, count: int) -> Sum:
        return Sum(self, count)

    def vector(self, context: Any, data: Buffer, *, where: str) -> Any:
        """A checked vector of one ciphertext.

        Raises
        ------
        WireError : it isn't a two-part ciphertext of these parameters in the one allowed frame.
        """
        body = memoryview(data)[len(_SIZES) + _LENGTH :]
        length = bytes([len(body) & 127 | 128, len(body) >> 7 & 127 | 128, len(body) >> 14 & 127])
        if bytes(data[: len(_SIZES) + _LENGTH]) != _SIZES + length:
            raise WireError("a ciphertext isn't in the frame of 4096 words", where=where)
        check_header(body, _BOUNDS, where=where)
        try:
            parsed = ts.bfv_vector_from(context, bytes(data))
        except (RuntimeError, ValueError, IndexError, MemoryError):
            raise WireError("a ciphertext can't be read", where=where) from None
        if _form(parsed) != self._form or parsed.ciphertext()[0].is_transparent():
            raise WireError("a ciphertext has other parameters", where=where)
        return parsed


class Key(cipher.Key):
    """A context with its secret key."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        self._scheme = scheme
        try:
            self._context = _context() if secret is None else ts.context_from(secret)
            fits = _form(ts.bfv_vector(self._context, [0] * DEGREE)) == scheme._form
        except (RuntimeError, ValueError, IndexError, MemoryError):
            fits = False
        if not fits:
            raise WireError("the league's key can't be read", where="key")

    def secret(self) -> bytes:
        serialised: bytes = self._context.serialize(
            save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
        return serialised

    def encrypt(self, values: Values) -> list[bytes]:
        """Ciphertexts of 4,096 words each; the last one is padded with zeros."""
        return [
            ts.bfv_vector(self._context, _filled(chunk)).serialize() for chunk in self._scheme.chunks(values)
        ]

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Words:
        """The words of a sum.

        Raises
        ------
        WireError : the parts aren't sums of these parameters, or not under this key.
        """
        self._scheme.require_number(parts, count, where=where)
        words = np.empty(len(parts) * DEGREE, dtype=np.int64)
        for place, part in enumerate(parts):
            vector = self._scheme.vector(self._context, part, where=where)
            words[place * DEGREE : (place + 1) * DEGREE] = vector.decrypt()
        words[words < 0] += MODULUS
        if words[count:].any():  # the padding is zero; a wrong key gives noise there, or in the fields
            raise WireError("the sum can't be decrypted with this key", where=where)
        return words[:count].astype(np.uint64)


class Sum(cipher.Sum):
    """A sum of TenSEAL's vectors."""

    def __init__(self, scheme: Scheme, count: int) -> None:
        self._scheme, self._count = scheme, count
        self._parts: list[Any] = []

    def parse(self, parts: Sequence[Buffer], *, where: str) -> list[Any]:
        self._scheme.require_number(parts, self._count, where=where)
        return [self._scheme.vector(self._scheme.context, part, where=where) for part in parts]

    def add(self, parts: list[Any]) -> None:
        """Add one parsed upload; the first one becomes the sum itself."""
        if not self._parts:
            self._parts = parts
            return
        for total, part in zip(self._parts, parts, strict=True):
            total.add_(part)

    def subtract(self, values: Values) -> None:
        for total, chunk in zip(self._parts, self._scheme.chunks(values), strict=True):
            total.sub_(_filled(chunk))

    def saved(self) -> list[bytes]:
        return [part.serialize() for part in self._parts]


def _context() -> Any:
    return ts.context(
        ts.SCHEME_TYPE.BFV, DEGREE, plain_modulus=MODULUS, coeff_mod_bit_sizes=PRIMES,
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )  # fmt: skip


def _form(vector: Any) -> tuple[Any, ...]:
    """The properties that all ciphertexts of one set of parameters share."""
    parts = vector.ciphertext()
    first = parts[0]
    return (
        len(parts), vector.size(), first.size(), first.poly_modulus_degree(), first.coeff_modulus_size(),
        tuple(first.parms_id()), first.is_ntt_form(),
    )  # fmt: skip


def _filled(words: Values) -> list[int]:
    whole = np.zeros(DEGREE, dtype=np.uint64)
    whole[: len(words)] = words
    return whole.tolist()
