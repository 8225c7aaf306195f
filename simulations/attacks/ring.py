"""Polynomials modulo Xᴺ + 1 and a prime, in which attacks on lattice ciphertexts compute.

`transform` gives SEAL's order: place i holds the value at ψ^(2·rev(i) + 1), with ψ the least primitive 2N-th root of
unity and rev the reversal of log₂N bits. Numbers are Python's own: products of 60-bit numbers don't fit a word.

>>> ring = Ring(8, 97)
>>> ring.inverse(ring.transform(np.arange(8, dtype=object))).tolist()
[0, 1, 2, 3, 4, 5, 6, 7]
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[Any]


class Ring:
    """ℤ_q[X] / (Xᴺ + 1).

    Parameters
    ----------
    degree : N, a power of two.
    prime : q, 1 modulo 2N.
    """

    def __init__(self, degree: int, prime: int) -> None:
        self.degree, self.prime = degree, prime
        bits = degree.bit_length() - 1
        self._order = np.array([int(f"{i:0{bits}b}"[::-1], 2) for i in range(degree)])
        self._root = _least_root(2 * degree, prime)
        self._powers = _powers(self._root, degree, prime)
        self._back = _powers(pow(self._root, -1, prime), degree, prime)

    def transform(self, polynomial: Numbers) -> Numbers:
        """Values at the odd powers of ψ, in SEAL's order; `polynomial` holds N whole numbers."""
        twisted = polynomial.astype(object) * self._powers % self.prime
        return _fourier(twisted, pow(self._root, 2, self.prime), self.prime)[self._order]

    def inverse(self, values: Numbers) -> Numbers:
        """The polynomial with these values, its coefficients in [0, q)."""
        plain = np.empty(self.degree, dtype=object)
        plain[self._order] = values
        back = _fourier(plain, pow(self._root, -2, self.prime), self.prime)
        return back * self._back % self.prime * pow(self.degree, -1, self.prime) % self.prime

    def conjugate_places(self) -> NDArray[np.int64]:
        """For each place, the place whose root is the inverse of its own."""
        place = np.empty(self.degree, dtype=np.int64)
        place[self._order] = np.arange(self.degree)
        mirrored: NDArray[np.int64] = place[self.degree - 1 - self._order]
        return mirrored

    def signed(self, values: Numbers) -> Numbers:
        """Numbers modulo q, each as the representative nearest to zero."""
        centred: Numbers = (values + self.prime // 2) % self.prime - self.prime // 2
        return centred

    def inverses(self, values: Numbers) -> Numbers:
        """Each number's inverse modulo q; zero for zero."""
        return np.array([pow(int(v), -1, self.prime) if v else 0 for v in values], dtype=object)


def _fourier(values: Numbers, root: int, prime: int) -> Numbers:
    """Σ_k values[k]·root^(jk) for all j, by halves."""
    size = len(values)
    if size == 1:
        return values
    square = root * root % prime
    even, odd = _fourier(values[::2], square, prime), _fourier(values[1::2], square, prime)
    turned = odd * _powers(root, size // 2, prime) % prime
    return np.concatenate([even + turned, even - turned]) % prime


def _powers(base: int, count: int, prime: int) -> Numbers:
    powers = np.empty(count, dtype=object)
    value = 1
    for place in range(count):
        powers[place] = value
        value = value * base % prime
    return powers


def _least_root(order: int, prime: int) -> int:
    """The least primitive root of unity of an order that is a power of two."""
    root_found = next(
        root
        for base in range(2, prime)
        if pow(root := pow(base, (prime - 1) // order, prime), order // 2, prime) == prime - 1
    )
    square, least, value = root_found * root_found % prime, root_found, root_found
    for _ in range(order // 2):
        least = min(least, value)
        value = value * square % prime
    return least
