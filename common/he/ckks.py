"""CKKS through TenSEAL's raw SEAL objects: sums of floats with a small error, for comparison and compatibility.

The parameters are one text, ``degree/bits of the primes/bits of the scale``; NVFlare's are ``8192/60-40-40/40``.

**Whoever holds a sum's CKKS ciphertext and its decryption can compute the key** (Li and Micciancio 2021): the error of
a decryption is a linear equation in the key. `simulations.attacks.cpad` carries this attack out. So under `ckks`
nothing that was decrypted is sent to the coordinator, which holds the ciphertexts (`common/he/README.md`, "The rule of
ckks").
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
from common.settings.config import NVFLARE_CKKS

_FORM = re.compile(r"(\d{4,5})/(\d{2}(?:-\d{2}){1,4})/(\d{2})")


class Scheme(SealScheme):
    """CKKS with one set of parameters.

    Raises
    ------
    ConfigError : the text isn't of the form above.
    MachineError : SEAL refuses the parameters at the 128-bit level.
    """

    exact = False

    def __init__(self, text: str = NVFLARE_CKKS) -> None:
        match = _FORM.fullmatch(text)
        if match is None:
            raise ConfigError(
                f"'{text}' are no parameters of CKKS",
                where="rounds.ckks",
                next_step=f"write, e.g., {NVFLARE_CKKS}",
            )
        degree, bits = int(match[1]), [int(n) for n in match[2].split("-")]
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.CKKS)
        try:
            parameters.set_poly_modulus_degree(degree)
            parameters.set_coeff_modulus(seal.CoeffModulus.Create(degree, bits))
        except (ValueError, RuntimeError) as fault:
            raise ConfigError(
                f"'{text}' are no parameters of CKKS", where="rounds.ckks", why=str(fault)
            ) from None
        super().__init__(SealFiles(parameters, seal.SEC_LEVEL_TYPE.TC128))
        self.encoder = seal.CKKSEncoder(self.context)
        self.parameters, self.slots = f"CKKS/{text}/symmetric-seeded", degree // 2
        self.scale = 2.0 ** int(match[3])
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
        parsed = self.files.ciphertext(data, bounds, ntt=True, where=where)
        if parsed.scale != self.scale:
            raise WireError("a ciphertext has another scale", where=where)
        return parsed


class Key(SealKey):
    """A CKKS key."""

    def __init__(self, scheme: Scheme, secret: bytes | None = None) -> None:
        super().__init__(scheme, secret)
        self._scheme = scheme

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> NDArray[np.float64]:
        """The floats of a sum. A wrong key gives meaningless numbers, which the checks of the sum refuse."""
        self._scheme.require_number(parts, count, where=where)
        values = np.empty(len(parts) * self._scheme.slots)
        plain = seal.Plaintext()
        for place, part in enumerate(parts):
            ciphertext = self._scheme.ciphertext(part, self._scheme.sum_bytes, where=where)
            self._decryptor.decrypt(ciphertext, plain)
            start = place * self._scheme.slots
            values[start : start + self._scheme.slots] = self._scheme.encoder.decode_double(plain)
        return values[:count]
