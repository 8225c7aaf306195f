"""The noisy output of each round, kept so that a repeated round costs no privacy a second time.

Invariant: a round of a run has one output for one request (for an `update` the received model, for `whole` numbers the
cohort). The same request gets the same bytes again. Another request in the same round is refused: a second answer about
the same users would cost privacy that the budget doesn't hold. The folder lies at the site and only its owner can read
it. If it's deleted, a repeated round draws new noise and is charged again.
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
    """A kind of output: its files' ending, the dtype of its numbers, and the fault to tell of another request."""

    ending: str
    dtype: str
    another: str


_UPDATE = _Kind("update", "<f4", "trained already, on another model")
_WHOLE = _Kind("whole", "<i8", "made for another cohort")


class NoisyOutputs:
    """The noisy outputs of one run at one site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, round_: int, received: FloatVector, train: Callable[[], FloatVector]) -> FloatVector:
        """The update that was made for this round, or a new one, which is written to disk before it's returned.

        Raises
        ------
        PrivacyError : the round was trained on another model, or the kept file is damaged.
        """
        about = bytes.fromhex(vector_digest(received))
        return self._once(_UPDATE, round_, about, len(received), train)

    def whole_once(self, round_: int, cohort: bytes, size: int, draw: Callable[[], Integers]) -> Integers:
        """The whole numbers that were made for this round, or new ones; like `once`.

        Parameters
        ----------
        cohort : a digest of the cohort, 32 bytes.

        Raises
        ------
        PrivacyError : the round was made for another cohort, or the kept file is damaged.
        """
        return self._once(_WHOLE, round_, cohort, size, draw)

    def _once(
        self, kind: _Kind, round_: int, about: bytes, size: int, make: Callable[[], NDArray[Any]]
    ) -> NDArray[Any]:
        path = self._folder / f"round-{round_:05d}.{kind.ending}"
        with self._locked():
            if path.exists():
                return _read(path, kind, about, size, f"round {round_}")
            output = make()
            write_whole(path, about + output.astype(kind.dtype).tobytes())
            return output

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Only one process at a time makes an output, so two requests for a round get the same one."""
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
