"""BFV through TenSEAL's raw SEAL objects: 4,096 words modulo t a ciphertext, exact sums, seeded uploads.

Degree 4096 and one 58-bit prime lie within the 256-bit security level, which is checked whenever a context is made. A
symmetric ciphertext that is saved straight from the encryptor holds the seed in place of its random half, which halves
the upload. Invariant: decrypt(Σ encrypt(wᵢ)) = Σ wᵢ mod t while `noise_budget_bits` is above zero; a league keeps four
bits or more, so no sum is of more than `MOST_SUMMED` (`common.settings.rules`). Only bytes whose container was
verified may come to `Sum.add`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import tenseal.sealapi as seal

from common.crypto.fields import MODULUS, Words
from common.errors import WireError
from common.he.cipher import Buffer, Values
from common.he.seal_files import SealFiles
from common.he.seal_schemes import SealKey, SealScheme

DEGREE = 4096
PRIME_BITS = 58
PARAMETERS = f"BFV/{DEGREE}/[{PRIME_BITS}]/{MODULUS}/symmetric-seeded"
FRESH_BYTES = (30_000, 34_000)
SUM_BYTES = (60_000, 68_000)


class Scheme(SealScheme):
    """The parameters of every league that doesn't choose others.

    Raises
    ------
    MachineError : this build of SEAL refuses them at the 256-bit level.
    """

    parameters, slots = PARAMETERS, DEGREE
    fresh_bytes, sum_bytes = FRESH_BYTES, SUM_BYTES

    def __init__(self) -> None:
        wanted = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        wanted.set_poly_modulus_degree(DEGREE)
        wanted.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [PRIME_BITS]))
        wanted.set_plain_modulus(MODULUS)
        super().__init__(SealFiles(wanted, seal.SEC_LEVEL_TYPE.TC256))
        self.encoder = seal.BatchEncoder(self.context)

    def key(self, secret: bytes | None = None) -> Key:
        return Key(self, secret)

    def plaintext(self, words: Values) -> seal.Plaintext:
        """Up to 4,096 words as a plaintext."""
        plain = seal.Plaintext()
        self.encoder.encode(words.tolist(), plain)
        return plain

    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, where: str) -> seal.Ciphertext:
        """See `SealFiles.ciphertext`."""
        return self.files.ciphertext(data, bounds, ntt=False, where=where)


@cache
def scheme() -> Scheme:
    """This process's parameters: making them costs as much as encrypting 10,000 numbers."""
    return Scheme()


class Key(SealKey):
    """A BFV key."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        super().__init__(scheme, secret)
        self._scheme = scheme

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Words:
        """The words of a sum.

        Raises
        ------
        WireError : the parts aren't sums of these parameters, or too much noise is in them.
        """
        self._scheme.require_number(parts, count, where=where)
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
