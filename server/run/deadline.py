"""One round's deadline, shared out to its steps.

Invariant: a round that has a quorum at each step is over by `rounds.deadline_s`, however many sites keep silent: each
step ends at its share of the round's time, counted from its beginning, so what an early step left a later one has.
"""

from __future__ import annotations

import time
from types import MappingProxyType

from common.settings.config import RoundsConfig

_ENDS = MappingProxyType({
    "keys": 0.15, "train": 0.6, "agree": 0.7, "reveal": 0.8, "trial": 0.87, "apply": 0.95, "guard": 1.0,
})  # fmt: skip
"""Step → the part of the round's time by which it ends, where all of them are needed."""


class RoundClock:
    """Seconds that a round's steps have left."""

    def __init__(self, rounds: RoundsConfig) -> None:
        self._began, self._rounds = time.monotonic(), rounds

    def left(self, step: str) -> float:
        """Until the step has to end; never less than a hundredth of the deadline."""
        end, deadline_s = _ENDS[step], self._rounds.deadline_s
        if self._rounds.protection == "plain":
            end = 0.9 if step == "train" and self._rounds.worst_fall else 1.0
        elif step == "train" and not self._rounds.masked:
            end = _ENDS["reveal"]
        return max(deadline_s / 100, self._began + end * deadline_s - time.monotonic())
