"""How long to wait before looking for work again: the longer there was none, the longer the pause.

Invariant: a pause is a tenth of the time without work, within two bounds. So waiting adds at most a tenth to a delay,
and idle processes use little of the machine.

>>> pauses = Pauses(0.1, 1.0, clock=iter([0.0, 0.5, 4.0, 60.0]).__next__)
>>> [pauses.next_s() for _ in range(3)]
[0.1, 0.4, 1.0]
"""

from __future__ import annotations

import time
from collections.abc import Callable


class Pauses:
    """Pauses between `shortest_s` and `longest_s`."""

    def __init__(
        self, shortest_s: float, longest_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shortest_s, self._longest_s, self._clock = shortest_s, longest_s, clock
        self._worked = clock()

    def worked(self) -> None:
        """Note that there was work just now."""
        self._worked = self._clock()

    def next_s(self) -> float:
        """The next pause in seconds."""
        return min(self._longest_s, max(self._shortest_s, (self._clock() - self._worked) / 10))
