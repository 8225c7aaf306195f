"""Noisy outputs that were made already, so that a round that is asked for again costs no privacy again.

Invariant: one round of a run gives one output about one request (`update`: the received model; `whole`: the cohort).
The same request gets the same bytes; another request in that round is refused, because a second look at the same users
would spend what the budget doesn't hold. The folder lies at the site, readable by its owner alone; who deletes it
forgets what was told, and pays for telling anew.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.errors import PrivacyError
from common.files import write_whole
from common.protocol.wire import FloatVector, vector_digest
from common.runtime.locks import locked

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class _Kind:
    """A sort of output: its files' ending, how its numbers lie there, and what another request was made for."""

    ending: str
    dtype: str
    another: str


_UPDATE = _Kind("update", "<f4", "trained already, on another model")
_WHOLE = _Kind("whole", "<i8", "made for another cohort")


class Kept:
    """The outputs of one run at one site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, round_: int, received: FloatVector, train: Callable[[], FloatVector]) -> FloatVector:
        """The update that was made for this round, or a new one, which is on disk before anybody sees it.

        Raises
        ------
        PrivacyError : the round was trained on another model, or what was kept is damaged.
        """
        about = bytes.fromhex(vector_digest(received))
        return self._once(_UPDATE, round_, about, len(received), train)

    def whole_once(self, round_: int, cohort: bytes, size: int, draw: Callable[[], Integers]) -> Integers:
        """The whole numbers that were made for this round, or new ones, as `once`.

        Parameters
        ----------
        cohort : 32 bytes that name it.

        Raises
        ------
        PrivacyError : the round was made for another cohort, or what was kept is damaged.
        """
        return self._once(_WHOLE, round_, cohort, size, draw)

    def _once(
        self, kind: _Kind, round_: int, about: bytes, size: int, make: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        path = self._folder / f"round-{round_:05d}.{kind.ending}"
        with self._locked():
            if path.exists():
                return _read(path, kind, about, size, f"round {round_}")
            made = make()
            write_whole(path, about + made.astype(kind.dtype).tobytes())
            return made

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two processes that are asked for the same round make one output between them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self._folder, 0o700)
        with locked(self._folder / ".lock"):
            yield


def _read(path: Path, kind: _Kind, about: bytes, size: int, where: str) -> NDArray[Any]:
    data, dtype = path.read_bytes(), np.dtype(kind.dtype)
    if len(data) != len(about) + dtype.itemsize * size:
        raise PrivacyError("what was kept of a round is damaged", where=where)
    if data[: len(about)] != about:
        raise PrivacyError(
            f"the round was {kind.another}", where=where,
            why="a second answer of the same users would spend privacy that the budget doesn't hold",
            next_step="resume the run from its own checkpoint, or start a new run",
        )  # fmt: skip
    return np.frombuffer(data[len(about) :], dtype).astype(dtype.newbyteorder("="))
