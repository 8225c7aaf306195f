"""Recognises ids that were read before, for more ids than fit the memory as text.

Invariant: an id takes eight bytes, whatever its length. Ids are compared by a 64-bit hash with a new random seed each
time, so nobody can make two of them collide. By chance, among ten million distinct ids two collide in one of four
hundred thousand readings.
"""

from __future__ import annotations

import secrets

import numpy as np
import polars as pl
from numpy.typing import NDArray


class SeenIds:
    """A set of ids, as sorted runs of hashes that are merged like the levels of a log-structured tree."""

    def __init__(self) -> None:
        self._seed = secrets.randbits(63)
        self._runs: list[NDArray[np.uint64]] = []

    def new(self, ids: pl.Series) -> pl.Series:
        """A mask of the ids that occur neither earlier in `ids` nor in an earlier call; these are added to the set."""
        hashes = ids.hash(self._seed).to_numpy()
        fresh = ids.is_first_distinct().to_numpy()
        for run in self._runs:
            at = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            fresh = fresh & (run[at] != hashes)
        self._keep(np.sort(hashes[fresh]))
        return pl.Series(fresh)

    def _keep(self, run: NDArray[np.uint64]) -> None:
        while self._runs and len(self._runs[-1]) <= 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
