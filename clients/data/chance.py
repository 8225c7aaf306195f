"""Chance that one customer's records alone decide: what is drawn for a customer follows from a seed and the own id.

Drawn in turn from one generator, a customer's draw would change with who else is there, and no promise to a single
person could be kept. Public chance for choosing rows, never noise that shall hide something.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_BITS = 53


def own_seeds(seed: int, names: Sequence[str]) -> NDArray[np.int64]:
    """A number in [0, 2^53) for each name.

    >>> own_seeds(1, ["a", "b"])[0] == own_seeds(1, ["a"])[0]
    np.True_
    """
    digests = (hashlib.sha256(f"{seed}\x1f{name}".encode()).digest()[:8] for name in names)
    return np.array([int.from_bytes(digest, "big") >> (64 - _BITS) for digest in digests], np.int64)


def own_draws(seed: int, names: Sequence[str]) -> NDArray[np.float64]:
    """A number in [0, 1) for each name."""
    draws: NDArray[np.float64] = own_seeds(seed, names) / 2.0**_BITS
    return draws
