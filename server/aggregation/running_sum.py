"""One running weighted sum over the updates of a round.

Invariant: the sum is taken in site order whatever order the replies come in, so the same replies give the
same bytes; addition of floats isn't associative, and this is what makes a run repeatable. Only a reply that
overtook another one waits in memory. The round loop pulls replies in site order through a narrow window and
the in-process grids deliver in order, so in practice one float64 sum of the model's size and a handful of
updates are all that is held, for 10 sites as for 1,000.

>>> total = RunningSum(size=1, places=2)
>>> total.add(1, np.float32([3.0]), 1.0); total.add(0, np.float32([1.0]), 3.0)
>>> total.mean()
array([1.5], dtype=float32)
"""

from __future__ import annotations

import numpy as np

from common.errors import QuorumError
from common.protocol.wire import FloatVector

_CHUNK = 1 << 15
_TOGETHER = 4


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
        self._ready: list[tuple[FloatVector, float]] = []

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
        self._fold()
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
                self._ready.append(ready)
            if len(self._ready) == _TOGETHER:
                self._fold()

    def _fold(self) -> None:
        # In chunks: a float64 product of a whole vector would double the memory and leave the cache. A few updates at
        # a time: the sum is by far the most that has to be read and written.
        for start in range(0, self._sum.size, _CHUNK):
            part = slice(start, start + _CHUNK)
            total = self._sum[part]
            for update, weight in self._ready:
                total += weight * update[part].astype(np.float64)
        for _, weight in self._ready:
            self._weight += weight
        self._ready.clear()
