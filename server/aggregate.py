"""One running weighted sum over the updates of a round.

Invariant: the sum is taken in site order whatever order the replies come in, so the same replies give the
same bytes; addition of floats isn't associative, and this is what makes a run repeatable. Only a reply that
overtook another one waits in memory. The round loop pulls replies in site order through a narrow window and
the in-process grids deliver in order, so in practice one float64 sum of the model's size is all that is
held, for 10 sites as for 1,000.

>>> total = RunningSum(size=1, places=2)
>>> total.add(1, np.float32([3.0]), 1.0); total.add(0, np.float32([1.0]), 3.0)
>>> total.mean()
array([1.5], dtype=float32)
"""

from __future__ import annotations

import numpy as np

from common.errors import QuorumError
from common.wire import FloatVector

_CHUNK = 1 << 15


class RunningSum:
    """Σ wᵢ·Δᵢ over a cohort whose members have fixed places.

    Parameters
    ----------
    size : numbers in each update.
    places : members of the cohort; each place is either added once or skipped once.
    """

    def __init__(self, size: int, places: int) -> None:
        self._sum = np.zeros(size, dtype=np.float64)
        self._weight = 0.0
        self._places = places
        self._next = 0
        self._waiting: dict[int, tuple[FloatVector, float] | None] = {}

    @property
    def waiting(self) -> int:
        """Replies that are held because an earlier place is still open."""
        return sum(entry is not None for entry in self._waiting.values())

    def add(self, place: int, update: FloatVector, weight: float) -> None:
        """Take the update of one place, float32 of shape (size,)."""
        self._settle(place, (update, weight))

    def skip(self, place: int) -> None:
        """Close a place whose site gave nothing usable."""
        self._settle(place, None)

    def mean(self) -> FloatVector:
        """Σ wᵢ·Δᵢ / Σ wᵢ as float32.

        Raises
        ------
        QuorumError : no update was added.
        """
        if self._next != self._places:
            raise ValueError(f"{self._places - self._next} places of the sum are still open")
        if self._weight <= 0:
            raise QuorumError("no update was usable", where="aggregation")
        return (self._sum / self._weight).astype(np.float32)

    def _settle(self, place: int, entry: tuple[FloatVector, float] | None) -> None:
        if not self._next <= place < self._places or place in self._waiting:
            raise ValueError(f"place {place} of the sum is taken or out of range")
        self._waiting[place] = entry
        while self._next in self._waiting:
            ready = self._waiting.pop(self._next)
            self._next += 1
            if ready is not None:
                self._fold(*ready)

    def _fold(self, update: FloatVector, weight: float) -> None:
        # In chunks: a float64 product of the whole vector would double the memory and leave the cache.
        for start in range(0, update.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            self._sum[part] += weight * update[part].astype(np.float64)
        self._weight += weight
