"""The common part of BFV and CKKS over SEAL's raw objects: seeded ciphertexts, sums, keys."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import tenseal.sealapi as seal

from common.he import cipher
from common.he.cipher import Buffer, Values
from common.he.seal_files import SealFiles


class SealScheme(cipher.Scheme):
    """A scheme over one SEAL context."""

    def __init__(self, files: SealFiles) -> None:
        self.files, self.context = files, files.context

    def sum(self, count: int) -> SealSum:
        return SealSum(self, count)

    @abstractmethod
    def plaintext(self, values: Values) -> seal.Plaintext:
        """Up to `slots` values as a plaintext."""

    @abstractmethod
    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, where: str) -> seal.Ciphertext:
        """A checked ciphertext; see `SealFiles.ciphertext`."""


class SealKey(cipher.Key):
    """A key; ciphertexts saved straight from the encryptor hold a seed in place of their random half."""

    def __init__(self, scheme: SealScheme, secret: bytes | None = None) -> None:
        self._seal_scheme = scheme
        if secret is None:
            self._secret = seal.KeyGenerator(scheme.context).secret_key()
        else:
            self._secret = scheme.files.secret_key(secret)
        self._encryptor = seal.Encryptor(scheme.context, self._secret)
        self._decryptor = seal.Decryptor(scheme.context, self._secret)

    def secret(self) -> bytes:
        return self._seal_scheme.files.saved(self._secret)

    def encrypt(self, values: Values) -> list[bytes]:
        """Seeded ciphertexts of `slots` values each."""
        scheme = self._seal_scheme
        return [
            scheme.files.saved(self._encryptor.encrypt_symmetric(scheme.plaintext(chunk)))
            for chunk in scheme.chunks(values)
        ]


class SealSum(cipher.Sum):
    """A running sum of ciphertexts."""

    def __init__(self, scheme: SealScheme, count: int) -> None:
        self._scheme, self._count = scheme, count
        self._evaluator = seal.Evaluator(scheme.context)
        self._parts: list[seal.Ciphertext] = []

    def parse(self, parts: Sequence[Buffer], *, where: str) -> list[seal.Ciphertext]:
        self._scheme.require_number(parts, self._count, where=where)
        return [self._scheme.ciphertext(part, self._scheme.fresh_bytes, where=where) for part in parts]

    def add(self, parts: list[seal.Ciphertext]) -> None:
        """Add one parsed upload; the first one becomes the sum itself."""
        if not self._parts:
            self._parts = parts
            return
        for total, part in zip(self._parts, parts, strict=True):
            self._evaluator.add_inplace(total, part)

    def subtract(self, values: Values) -> None:
        for total, chunk in zip(self._parts, self._scheme.chunks(values), strict=True):
            self._evaluator.sub_plain_inplace(total, self._scheme.plaintext(chunk))

    def saved(self) -> list[bytes]:
        return [self._scheme.files.saved(part) for part in self._parts]
