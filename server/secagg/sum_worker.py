"""The running encrypted sum, in a process of its own with little memory: peers' ciphertexts are parsed nowhere else.

Invariant: whatever an upload does to the process (crash, hang, swallow memory), the coordinator lives on, names the
sender, and has the sum of the uploads folded before: they lie in an unlinked file, which the process reads, and are
added again in a new one.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from types import TracebackType

import numpy as np

from common.errors import MachineError, WireError
from common.he import limited_process
from common.he.cipher import Buffer, Values
from common.he.limited_process import PATIENCE_S, LimitedProcess
from common.he.schemes import scheme


class SumWorker:
    """One process for a run, started when it's first needed.

    Parameters
    ----------
    name : of the scheme; see `common.he.schemes`.
    patience_s : see `LimitedProcess`.
    """

    def __init__(self, name: str = "bfv", patience_s: float = PATIENCE_S) -> None:
        self._scheme = scheme(name)
        self._count = 0
        self._pending: list[int] = []
        self._spool = tempfile.TemporaryFile(prefix="hansa-sum-")  # noqa: SIM115 - `__exit__` closes it
        self._process = LimitedProcess(name, self._spool.fileno(), patience_s)
        self._folded: list[list[int]] = []
        self._end = 0

    def __enter__(self) -> SumWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.stop()
        self._spool.close()

    @property
    def pid(self) -> int | None:
        """The process, where one runs."""
        return self._process.pid

    def start(self, count: int) -> None:
        """Begin an empty sum of `count` values."""
        self._count, self._folded, self._end = count, [], 0
        self._ask(limited_process.START, [str(count).encode()])

    def parse(self, parts: Sequence[Buffer], *, where: str) -> None:
        """Check an upload's ciphertexts, all of them; `fold` adds them then.

        Raises
        ------
        WireError : they aren't ciphertexts of the league, or the process broke over them.
        """
        low, high = self._scheme.fresh_bytes
        number = self._scheme.ciphertexts(self._count)
        if len(parts) != number or not all(low <= len(part) <= high for part in parts):
            raise WireError("the ciphertexts have an impossible number or length", where=where)
        self._pending = _append(self._spool.fileno(), self._end, parts)
        try:
            self._ask(limited_process.PARSE, [_numbers(self._pending)])
        except MachineError:
            self._again()
            raise WireError("a ciphertext broke the process that reads it", where=where) from None
        except WireError as fault:
            raise WireError(fault.what, where=where) from None

    def fold(self) -> None:
        """Add the upload that was parsed last."""
        self._ask(limited_process.FOLD, [])
        self._folded.append(self._pending)
        self._end = self._pending[-1]

    def subtract(self, values: Values) -> None:
        """Take known values out of the sum."""
        self._ask(limited_process.SUBTRACT, [values.tobytes()])

    def saved(self) -> list[bytes]:
        """The sum's ciphertexts."""
        return self._ask(limited_process.SAVE, [])

    def _again(self) -> None:
        self._process.stop()
        self._ask(limited_process.START, [str(self._count).encode()])
        for places in self._folded:
            self._ask(limited_process.PARSE, [_numbers(places)])
            self._ask(limited_process.FOLD, [])

    def _ask(self, meaning: int, parts: Sequence[Buffer]) -> list[bytes]:
        return self._process.ask(meaning, parts, ciphertexts=self._scheme.ciphertexts(self._count))


def _append(file: int, start: int, parts: Sequence[Buffer]) -> list[int]:
    """Write an upload's ciphertexts from `start` on; where each begins, and where the last one ends."""
    places = [start]
    for part in parts:
        os.pwrite(file, part, places[-1])
        places.append(places[-1] + len(part))
    return places


def _numbers(values: Sequence[int]) -> bytes:
    return np.array(values, dtype="<u8").tobytes()
