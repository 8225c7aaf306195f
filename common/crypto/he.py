"""BFV through TenSEAL's raw SEAL objects: 4,096 words modulo t a ciphertext, exact sums, seeded uploads.

Degree 4096 and one 58-bit prime lie within the 256-bit security level, which is checked whenever a context is made. A
symmetric ciphertext that is saved straight from the encryptor holds the seed in place of its random half, which halves
the upload. Invariant: decrypt(Σ encrypt(wᵢ)) = Σ wᵢ mod t while `noise_budget_bits` is above zero; a league keeps four
bits or more. Only bytes whose container was verified may come to `Sum.add`; bounds on their length come before SEAL
sees them, then size, degree, modulus and parameters are compared. SEAL reads and writes paths only, hence memfd.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache

import numpy as np
import tenseal.sealapi as seal

from common.crypto.fields import MODULUS, Words
from common.errors import MachineError, WireError

DEGREE = 4096
PRIME_BITS = 58
PARAMETERS = f"BFV/{DEGREE}/[{PRIME_BITS}]/{MODULUS}/symmetric-seeded"
FRESH_BYTES = (30_000, 34_000)
SUM_BYTES = (60_000, 68_000)
_MAGIC = b"\x5e\xa1\x10"
Buffer = bytes | memoryview


class Scheme:
    """The one set of parameters of every league.

    Raises
    ------
    MachineError : this build of SEAL refuses them at the 256-bit level.
    """

    def __init__(self) -> None:
        wanted = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        wanted.set_poly_modulus_degree(DEGREE)
        wanted.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [PRIME_BITS]))
        wanted.set_plain_modulus(MODULUS)
        self.context = seal.SEALContext(wanted, True, seal.SEC_LEVEL_TYPE.TC256)
        if not self.context.parameters_set():
            raise MachineError(
                "the encryption parameters are refused",
                where="SEAL",
                why=self.context.parameters_error_name(),
            )
        self.encoder = seal.BatchEncoder(self.context)
        self._fd = os.memfd_create("hansa-he", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        self._held, self._lock = 0, threading.RLock()

    @contextmanager
    def file(self, data: Buffer = b"") -> Iterator[str]:
        """A path in memory that holds `data`, which SEAL may read."""
        with self._lock:
            os.pwrite(self._fd, data, 0)
            if len(data) < self._held:  # pages are kept from one ciphertext to the next: new ones cost most
                os.ftruncate(self._fd, len(data))
            self._held = len(data)
            yield f"/proc/self/fd/{self._fd}"

    def saved(self, thing: seal.Ciphertext) -> bytes:
        """SEAL's own serial form."""
        with self.file() as path:
            thing.save(path)
            self._held = os.fstat(self._fd).st_size
            return os.pread(self._fd, self._held, 0)

    def plaintext(self, words: Words) -> seal.Plaintext:
        """Up to 4,096 words as a plaintext."""
        plain = seal.Plaintext()
        self.encoder.encode(words.tolist(), plain)
        return plain

    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, where: str) -> seal.Ciphertext:
        """Parse a ciphertext and compare everything that its bytes could lie about.

        Raises
        ------
        WireError : it isn't a two-part ciphertext of these parameters.
        """
        if not bounds[0] <= len(data) <= bounds[1] or data[:3] != _MAGIC:
            raise WireError("a ciphertext has an impossible length or no header", where=where)
        if int.from_bytes(data[8:16], "little") != len(data):
            raise WireError("a ciphertext states another length", where=where)
        found = seal.Ciphertext()
        try:
            with self.file(data) as path:
                found.load(self.context, path)
        except (RuntimeError, ValueError, IndexError, MemoryError):
            raise WireError("a ciphertext can't be read", where=where) from None
        fits = (
            found.size() == 2
            and found.poly_modulus_degree() == DEGREE
            and found.coeff_modulus_size() == 1
            and found.parms_id() == self.context.first_parms_id()
            and not found.is_ntt_form()
            and not found.is_transparent()
        )
        if not fits:
            raise WireError("a ciphertext has other parameters", where=where)
        return found


@cache
def scheme() -> Scheme:
    """This process's parameters: making them costs as much as encrypting 10,000 numbers."""
    return Scheme()


class Key:
    """The league's secret key of one epoch, which sites hold and the coordinator never does."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        self._scheme = scheme
        if secret is None:
            self._secret = seal.KeyGenerator(scheme.context).secret_key()
        else:
            self._secret = seal.SecretKey()
            try:
                with scheme.file(secret) as path:
                    self._secret.load(scheme.context, path)
            except (RuntimeError, ValueError):
                raise WireError("the league's key can't be read", where="key") from None
        self._encryptor = seal.Encryptor(scheme.context, self._secret)
        self._decryptor = seal.Decryptor(scheme.context, self._secret)

    def secret(self) -> bytes:
        """The key itself, for wrapping to other sites."""
        return self._scheme.saved(self._secret)

    def encrypt(self, words: Words) -> list[bytes]:
        """Seeded ciphertexts of 4,096 words each."""
        return [
            self._scheme.saved(self._encryptor.encrypt_symmetric(self._scheme.plaintext(chunk)))
            for chunk in chunks(words)
        ]

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Words:
        """The words of a sum.

        Raises
        ------
        WireError : the parts aren't sums of these parameters, or too much noise is in them.
        """
        if len(parts) != ciphertexts(count):
            raise WireError(f"{len(parts)} ciphertexts can't hold {count} words", where=where)
        words = np.empty(len(parts) * DEGREE, dtype=np.uint64)
        plain = seal.Plaintext()
        for place, part in enumerate(parts):
            found = self._scheme.ciphertext(part, SUM_BYTES, where=where)
            if place == 0 and self._decryptor.invariant_noise_budget(found) < 1:
                raise WireError("the sum can't be decrypted with this key", where=where)
            self._decryptor.decrypt(found, plain)
            words[place * DEGREE : (place + 1) * DEGREE] = self._scheme.encoder.decode_uint64(plain)
        return words[:count]

    def noise_budget_bits(self, part: Buffer) -> int:
        """Bits of noise that a sum may still take."""
        return self._decryptor.invariant_noise_budget(self._scheme.ciphertext(part, SUM_BYTES, where="sum"))


class Sum:
    """One running encrypted sum; its size doesn't depend on the number of sites."""

    def __init__(self, scheme: Scheme, count: int) -> None:
        self._scheme, self._count = scheme, count
        self._evaluator = seal.Evaluator(scheme.context)
        self._parts: list[seal.Ciphertext] = []

    def parse(self, parts: Sequence[Buffer], *, where: str) -> list[seal.Ciphertext]:
        """An upload's ciphertexts, all checked before any is added.

        Raises
        ------
        WireError : see `Scheme.ciphertext`; or their number differs.
        """
        if len(parts) != ciphertexts(self._count):
            raise WireError(f"{len(parts)} ciphertexts can't hold {self._count} words", where=where)
        return [self._scheme.ciphertext(part, FRESH_BYTES, where=where) for part in parts]

    def add(self, parts: list[seal.Ciphertext]) -> None:
        """Fold one parsed upload; the first one is taken over."""
        if not self._parts:
            self._parts = parts
            return
        for total, part in zip(self._parts, parts, strict=True):
            self._evaluator.add_inplace(total, part)

    def subtract(self, words: Words) -> None:
        """Take known words out of the sum."""
        for total, chunk in zip(self._parts, chunks(words), strict=True):
            self._evaluator.sub_plain_inplace(total, self._scheme.plaintext(chunk))

    def saved(self) -> list[bytes]:
        """The sum's ciphertexts."""
        return [self._scheme.saved(part) for part in self._parts]


def ciphertexts(count: int) -> int:
    """Ciphertexts that `count` words take."""
    return -(-count // DEGREE)


def chunks(words: Words) -> Iterator[Words]:
    """Words by the ciphertext."""
    return (words[start : start + DEGREE] for start in range(0, len(words), DEGREE))
