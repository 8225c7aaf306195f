"""Key recovery from a decrypted sum (Li and Micciancio, "On the Security of Homomorphic Encryption on Approximate
Numbers", Eurocrypt 2021): why under `ckks` nothing decrypted may reach a holder of ciphertexts.

The attacker holds a sum's ciphertexts (c₀, c₁) and the floats that a site decrypted. Decryption gives p = c₀ + c₁·s,
and the floats are the real parts of p at the roots of unity, so they determine p(X) + p(1/X) to the last bit. At each
root that is one linear equation in two unknown values of s, at the root and at its inverse; two ciphertexts give two
equations. Their solution is the key itself, which decrypts each upload that the attacker kept.

A BFV decryption is exact: it reveals nothing about the noise, and the same computation gives meaningless numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from numpy.typing import NDArray

from common.crypto.fields import MODULUS, Words
from common.he import bfv, ckks
from common.he.cipher import Buffer
from simulations.attacks.ring import Numbers, Ring

Floats = NDArray[np.float64]


def recover_ckks_key(scheme: ckks.Scheme, parts: Sequence[Buffer], values: Floats) -> Numbers | None:
    """The secret polynomial, with coefficients in {-1, 0, 1}, from a sum and its decryption; None if that fails.

    Parameters
    ----------
    parts : the sum's ciphertexts, at least two.
    values : the floats that a site decrypted, in float64.
    """
    ring, prime_place = _smallest_ring(scheme)
    mirror = ring.conjugate_places()
    rows, sums = [], []
    for place, part in enumerate(parts[:2]):
        ciphertext = scheme.ciphertext(part, scheme.sum_bytes, where="attack")
        first, second = (_values(ciphertext, half, prime_place, ring.degree) for half in (0, 1))
        chunk = np.zeros(scheme.slots)
        plain_values = values[place * scheme.slots : (place + 1) * scheme.slots]
        chunk[: len(plain_values)] = plain_values
        if len(plain_values) < scheme.slots:
            return None  # a float that isn't known is a missing equation
        doubled = ring.transform(np.rint(2 * scheme.scale * _real_polynomial(chunk)).astype(np.int64))
        rows.append(second)
        sums.append((doubled - first - first[mirror]) % ring.prime)
    # rows[0]·s + rows[0][mirror]·s[mirror] = known[0], and the same for 1: Cramer's rule at each root.
    (a, c), (u, v) = rows, sums
    b, d = a[mirror], c[mirror]
    determinant = ring.inverses((a * d - b * c) % ring.prime)
    secret = ring.signed(ring.inverse((u * d - b * v) * determinant % ring.prime))
    return secret if set(secret.tolist()) <= {-1, 0, 1} else None


def read_with_key(
    scheme: ckks.Scheme, secret: Numbers, parts: Sequence[Buffer], *, fresh: bool = True
) -> Floats:
    """The floats of ciphertexts, by a key that was recovered."""
    ring, prime_place = _smallest_ring(scheme)
    key, chunks = ring.transform(secret % ring.prime), []
    bounds = scheme.fresh_bytes if fresh else scheme.sum_bytes
    for part in parts:
        cipher = scheme.ciphertext(part, bounds, where="attack")
        first, second = (_values(cipher, half, prime_place, ring.degree) for half in (0, 1))
        plain = ring.signed(ring.inverse((first + second * key) % ring.prime)).astype(np.float64)
        chunks.append(_slots(plain) / scheme.scale)
    return np.concatenate(chunks)


def recover_bfv_key(
    scheme: bfv.Scheme, part: Buffer, words: Words, noise: Numbers | None = None
) -> Numbers | None:
    """The same against BFV: solve c₀ + c₁·s = ⌊q·m/t⌉ + noise for s; None if the solution isn't a key.

    Parameters
    ----------
    part : one ciphertext of a sum.
    words : its decryption, which is exact.
    noise : the noise, which no decryption reveals; None takes it as zero, as the attacker must.
    """
    ring = _bfv_ring(scheme)
    first, second, scaled = _bfv_polynomials(scheme, ring, part, words)
    right_side = (scaled - first + (0 if noise is None else noise)) % ring.prime
    secret = ring.signed(
        ring.inverse(ring.transform(right_side) * ring.inverses(ring.transform(second)) % ring.prime)
    )
    return secret if set(secret.tolist()) <= {-1, 0, 1} else None


def bfv_noise(scheme: bfv.Scheme, part: Buffer, words: Words, key: bytes) -> Numbers:
    """A ciphertext's noise, c₀ + c₁·s − ⌊q·m/t⌉, which only the key reveals."""
    ring = _bfv_ring(scheme)
    first, second, scaled = _bfv_polynomials(scheme, ring, part, words)
    secret_key = scheme.files.secret_key(key)  # what `data` gives lives only as long as the key
    data = secret_key.data()
    secret = np.array(
        [data.data(place) for place in range(ring.degree)], dtype=object
    )  # SEAL keeps it transformed
    product = ring.inverse(ring.transform(second) * secret % ring.prime)
    return ring.signed((first + product - scaled) % ring.prime)


def _bfv_polynomials(
    scheme: bfv.Scheme, ring: Ring, part: Buffer, words: Words
) -> tuple[Numbers, Numbers, Numbers]:
    ciphertext = scheme.ciphertext(part, scheme.sum_bytes, where="attack")
    whole = np.zeros(scheme.slots, dtype=np.uint64)
    whole[: len(words)] = words
    plain: seal.Plaintext = scheme.plaintext(whole)
    message = [plain.data(place) if place < plain.coeff_count() else 0 for place in range(ring.degree)]
    scaled = [(value * ring.prime + MODULUS // 2) // MODULUS for value in message]
    first, second = (_values(ciphertext, half, 0, ring.degree) for half in (0, 1))
    return first, second, np.array(scaled, dtype=object)


def _bfv_ring(scheme: bfv.Scheme) -> Ring:
    parameters = scheme.context.first_context_data().parms()
    return Ring(bfv.DEGREE, int(parameters.coeff_modulus()[0].value()))


def _smallest_ring(scheme: ckks.Scheme) -> tuple[Ring, int]:
    """One of the primes is enough: the key's coefficients, and a weighted update's, are far below it."""
    parameters = scheme.context.first_context_data().parms()
    primes = [int(modulus.value()) for modulus in parameters.coeff_modulus()]
    place = int(np.argmin(primes))
    return Ring(parameters.poly_modulus_degree(), primes[place]), place


def _values(cipher: Any, half: int, prime_place: int, degree: int) -> Numbers:
    """One polynomial of a ciphertext modulo one of its primes."""
    start = (half * cipher.coeff_modulus_size() + prime_place) * degree
    data = cipher.dyn_array()
    return np.array([data.at(start + place) for place in range(degree)], dtype=object)


def _exponents(slots: int) -> NDArray[np.int64]:
    """Slot j is the value at the root e^(iπ·3ʲ/N)."""
    exponents = np.empty(slots, dtype=np.int64)
    value = 1
    for place in range(slots):
        exponents[place] = value
        value = value * 3 % (4 * slots)
    return exponents


def _real_polynomial(values: Floats) -> Floats:
    """The real polynomial whose values at the slots' roots are these, all of them real."""
    degree, odd = 2 * len(values), _exponents(len(values))
    spread = np.zeros(degree)
    spread[odd // 2] = values
    spread[(2 * degree - odd) // 2] = values
    turned = np.exp(-1j * np.pi * np.arange(degree) / degree)
    polynomial: Floats = (np.fft.fft(spread) * turned).real / degree
    return polynomial


def _slots(polynomial: Floats) -> Floats:
    """The inverse: real parts of a polynomial's values at the slots' roots."""
    degree = len(polynomial)
    turned = polynomial * np.exp(1j * np.pi * np.arange(degree) / degree)
    values = np.fft.ifft(turned) * degree
    reals: Floats = values[_exponents(degree // 2) // 2].real
    return reals
