"""The coordinator's half of a protection: what it may see of the updates, and how it sums them.

A protection is chosen by name in the league's settings. Its site half, `clients.secagg.plain`, turns an update
into one vector for the wire; this half checks such a payload, folds it into one running sum, and opens the
sum. `plain` shows every update to the coordinator; for the others see `server.secagg`.

Invariant: a payload is checked whole before any of it enters the sum; each place of the cohort is folded or
skipped exactly once.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Generic, TypeVar

import numpy as np
from flwr.app import RecordDict

from common.errors import WireError
from common.protocol.wire import FloatVector, Layout, check_finite, decode_floats
from common.secagg.pipeline import Clip, Parcel, Quantise, Step, Terms, send
from common.secagg.protocol import Attempt
from common.settings.config import RoundsConfig
from server.aggregation.running_sum import RunningSum

P = TypeVar("P")


class Protection(ABC, Generic[P]):
    """One round's sum under one protection; `P` is the type of a checked payload."""

    name: str

    @abstractmethod
    def check(self, content: RecordDict, *, site: str, where: str) -> P:
        """The payload of a reply, or WireError that says why it can't enter the sum."""

    @abstractmethod
    def fold(self, place: int, payload: P, weight: float) -> None:
        """Add a checked payload at its place in the cohort."""

    @abstractmethod
    def skip(self, place: int) -> None:
        """Close the place of a site that gave nothing usable."""

    @abstractmethod
    def open(self) -> FloatVector:
        """The weighted mean update, float32 of the model's size."""


class Plain(Protection[FloatVector]):
    """Updates in clear: the coordinator is trusted, and can bound each update's norm."""

    name = "plain"

    def __init__(self, size: int, places: int, max_update_norm: float) -> None:
        self._size, self._max_norm = size, max_update_norm
        self._sum = RunningSum(size, places)

    def check(self, content: RecordDict, *, site: str, where: str) -> FloatVector:
        update = decode_floats(content, self._size, where=where)
        norm = float(np.sqrt(np.vdot(update, update)))
        if not np.isfinite(norm):
            check_finite(update, where=where)
        if not norm <= self._max_norm:
            raise WireError(f"the update's norm is {norm:.3g}, above {self._max_norm:.3g}", where=where)
        return update

    def fold(self, place: int, payload: FloatVector, weight: float) -> None:
        self._sum.add(place, payload, weight)

    def skip(self, place: int) -> None:
        self._sum.skip(place)

    def open(self) -> FloatVector:
        return self._sum.mean()


class Quantised(Plain):
    """Updates in clear, summed as the whole numbers that the other protections sum, so that results can be compared."""

    def __init__(
        self, rounds: RoundsConfig, layout: Layout, weights: Mapping[str, float], seed: int, round_: int
    ) -> None:
        size = layout.size
        super().__init__(size, len(weights), rounds.max_update_norm)
        self._attempt, self._rounds = Attempt(round_, "", weights), rounds
        self._layout, self._seed = layout, seed
        self._total = np.zeros(size, dtype=np.int64)
        self._folded: list[str] = []

    def fold(self, place: int, payload: FloatVector, weight: float) -> None:
        name = self._attempt.names[place]
        self._total += send(self._steps(name), Parcel(payload))
        self._folded.append(name)

    def open(self) -> FloatVector:
        parcel = Parcel(self._total, survivors=self._folded)
        Quantise(self._terms("")).back(parcel)
        mean: FloatVector = parcel.values
        return mean

    def _steps(self, name: str) -> list[Step]:
        terms = self._terms(name)
        return [Clip(terms), Quantise(terms)]

    def _terms(self, name: str) -> Terms:
        return Terms(self._rounds, self._layout, self._attempt, name, self._seed)
