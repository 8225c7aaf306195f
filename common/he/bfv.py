"""BFV through TenSEAL's raw SEAL objects: 4,096 words modulo t per ciphertext, exact sums, seeded uploads.

Degree 4096 and one 58-bit prime meet the 256-bit security level, which is checked whenever a context is made. A
symmetric ciphertext that is saved straight from the encryptor holds a seed in place of its random half, which halves
the upload.

Invariants: decrypt(Σ encrypt(wᵢ)) = Σ wᵢ mod t while `noise_budget_bits` is above zero; a league keeps four bits or
more, so no sum has more than `MOST_SUMMED` terms (`common.settings.rules`). Only ciphertexts from a verified container
may be given to `Sum.add`.
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
    """The default parameters of a league.

    Raises
    ------
    MachineError : this build of SEAL refuses the parameters at the 256-bit level.
    """

    parameters, slots = PARAMETERS, DEGREE
    fresh_bytes, sum_bytes = FRESH_BYTES, SUM_BYTES

    def __init__(self) -> None:
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        parameters.set_poly_modulus_degree(DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(DEGREE, [PRIME_BITS]))
        parameters.set_plain_modulus(MODULUS)
        super().__init__(SealFiles(parameters, seal.SEC_LEVEL_TYPE.TC256))
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
    """One scheme per process: making it costs as much as encrypting 10,000 numbers."""
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
        WireError : the parts aren't sums of these parameters, or hold too much noise.
        """
        self._scheme.require_number(parts, count, where=where)
        words = np.empty(len(parts) * DEGREE, dtype=np.uint64)
        plain = seal.Plaintext()
        for place, part in enumerate(parts):
            ciphertext = self._scheme.ciphertext(part, SUM_BYTES, where=where)
            if place == 0 and self._decryptor.invariant_noise_budget(ciphertext) < 1:
                raise WireError("the sum can't be decrypted with this key", where=where)
            self._decryptor.decrypt(ciphertext, plain)
            words[place * DEGREE : (place + 1) * DEGREE] = self._scheme.encoder.decode_uint64(plain)
        return words[:count]

    def noise_budget_bits(self, part: Buffer) -> int:
        """How many bits of noise a sum can still take."""
        return self._decryptor.invariant_noise_budget(self._scheme.ciphertext(part, SUM_BYTES, where="sum"))
