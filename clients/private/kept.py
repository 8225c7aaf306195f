"""Noisy updates that were made already, so that a round that is asked for again costs no privacy again.

Invariant: one round of a run gives one noisy update of one received model. The same request gets the same bytes; a
request for another model in that round is refused, because a second look at the same users would spend what the
budget doesn't hold. The folder lies at the site, readable by its owner alone; who deletes it forgets what was told.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from common.errors import PrivacyError
from common.run_folder import write_whole
from common.wire import FloatVector, vector_digest


class KeptUpdates:
    """The updates of one run at one site."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def once(self, round_: int, received: FloatVector, train: Callable[[], FloatVector]) -> FloatVector:
        """The update that was made for this round, or a new one, which is on disk before anybody sees it.

        Raises
        ------
        PrivacyError : the round was trained on another model, or what was kept is damaged.
        """
        path = self._folder / f"round-{round_:05d}.update"
        digest = bytes.fromhex(vector_digest(received))
        with self._locked():
            if path.exists():
                return _read(path, digest, len(received), round_)
            update = train()
            write_whole(path, digest + update.astype("<f4").tobytes())
            return update

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Two processes that are asked for the same round make one update between them."""
        self._folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self._folder, 0o700)
        handle = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        finally:
            os.close(handle)


def _read(path: Path, digest: bytes, size: int, round_: int) -> FloatVector:
    data = path.read_bytes()
    if len(data) != len(digest) + 4 * size:
        raise PrivacyError("the kept update of a round is damaged", where=f"round {round_}")
    if data[: len(digest)] != digest:
        raise PrivacyError(
            "the round was trained already, on another model", where=f"round {round_}",
            why="a second update would spend privacy that the budget doesn't hold",
            next_step="resume the run from its own checkpoint, or start a new run",
        )  # fmt: skip
    return np.frombuffer(data[len(digest) :], dtype="<f4").astype(np.float32)
