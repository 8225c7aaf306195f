"""CKKS through TenSEAL's raw SEAL objects: sums of floats with a small error, for comparison and compatibility.

Parameters are one text, ``degree/bits of the primes/bits of the scale``; NVFlare's are ``8192/60-40-40/40``.

**CKKS leaks its key to whoever holds a sum's ciphertext and its decryption** (Li and Micciancio 2021): the error of a
decryption is a linear equation in the key. `simulations.attacks.cpad` does it. So under `ckks` nothing that was
decrypted goes to the coordinator, which holds ciphertexts (`common.crypto.README`, "The rule of ckks").
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from common.errors import ConfigError, WireError
from common.he.cipher import Buffer, Values
from common.he.seal_files import SealFiles
from common.he.seal_schemes import SealKey, SealScheme

NVFLARE = "8192/60-40-40/40"
_FORM = re.compile(r"(\d{4,5})/(\d{2}(?:-\d{2}){1,4})/(\d{2})")


class Scheme(SealScheme):
    """One set of CKKS parameters.

    Raises
    ------
    ConfigError : the text isn't of the form that the module names.
    MachineError : SEAL refuses the parameters at the 128-bit level.
    """

    exact = False

    def __init__(self, text: str = NVFLARE) -> None:
        found = _FORM.fullmatch(text)
        if found is None:
            raise ConfigError(
                f"'{text}' are no parameters of CKKS",
                where="rounds.ckks",
                next_step=f"write, e.g., {NVFLARE}",
            )
        degree, bits = int(found[1]), [int(n) for n in found[2].split("-")]
        wanted = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        try:
            wanted.set_poly_modulus_degree(degree)
            wanted.set_coeff_modulus(seal.CoeffModulus.Create(degree, bits))
        except (ValueError, RuntimeError) as fault:
            raise ConfigError(
                f"'{text}' are no parameters of CKKS", where="rounds.ckks", why=str(fault)
            ) from None
        super().__init__(SealFiles(wanted, seal.SEC_LEVEL_TYPE.TC128))
        self.encoder = seal.CKKSEncoder(self.context)
        self.parameters, self.slots = f"CKKS/{text}/symmetric-seeded", degree // 2
        self.scale = 2.0 ** int(found[3])
        packed = sum(bits[:-1]) * degree // 8  # one half of a ciphertext, without the key-switching prime
        self.fresh_bytes = (packed * 4 // 5, degree * 8 * len(bits[:-1]) + 4096)
        self.sum_bytes = (2 * self.fresh_bytes[0], 2 * self.fresh_bytes[1])

    def key(self, secret: bytes | None = None) -> Key:
        return Key(self, secret)

    def plaintext(self, values: Values) -> seal.Plaintext:
        """Up to `slots` floats as a plaintext."""
        plain = seal.Plaintext()
        self.encoder.encode(values.astype(np.float64).tolist(), self.scale, plain)
        return plain

    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, where: str) -> seal.Ciphertext:
        """See `SealFiles.ciphertext`; the scale is compared too."""
        found = self.files.ciphertext(data, bounds, ntt=True, where=where)
        if found.scale != self.scale:
            raise WireError("a ciphertext has another scale", where=where)
        return found


class Key(SealKey):
    """A CKKS key."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        super().__init__(scheme, secret)
        self._scheme = scheme

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> NDArray[np.float64]:
        """The floats of a sum; a foreign key gives numbers without sense, which the checks of the sum refuse."""
        self._scheme.require_number(parts, count, where=where)
        values = np.empty(len(parts) * self._scheme.slots)
        plain = seal.Plaintext()
        for place, part in enumerate(parts):
            found = self._scheme.ciphertext(part, self._scheme.sum_bytes, where=where)
            self._decryptor.decrypt(found, plain)
            start = place * self._scheme.slots
            values[start : start + self._scheme.slots] = self._scheme.encoder.decode_double(plain)
        return values[:count]
