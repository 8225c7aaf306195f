"""The running encrypted sum, in a process of its own with little memory: peers' ciphertexts are parsed nowhere else.

Invariant: whatever an upload does to the process (crash, hang, swallow memory), the coordinator lives on, names the
sender, and has the sum of the uploads folded before: they lie in an unlinked file, which the process reads, and are
added again in a new one. Frames both ways: one byte of meaning, u32 number of parts, u32 length of each, the parts;
an upload's ciphertexts don't travel so, but as their places in the file.
"""

from __future__ import annotations

import itertools
import os
import resource
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np

from common.crypto import he
from common.crypto.fields import Words
from common.errors import MachineError, WireError

_ROOM = 48 << 20
_PATIENCE_S = 20.0
_START, _PARSE, _FOLD, _SUBTRACT, _SAVE, _DONE, _REFUSED = b"sPfuvdr"
_PROGRAM = (
    "import sys; from server.sum_worker import serve; "
    "serve(sys.stdin.buffer, sys.stdout.buffer, uploads=int(sys.argv[1]))"
)


class SumWorker:
    """One process for a run, started when it's first needed.

    Parameters
    ----------
    patience_s : the longest that one step may take per 1,000 ciphertexts, before the process counts as hung.
    """

    def __init__(self, patience_s: float = _PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._count = 0
        self._pending: list[int] = []
        self._spool = tempfile.TemporaryFile(prefix="hansa-sum-")  # noqa: SIM115 - `__exit__` closes it
        self._folded: list[list[int]] = []
        self._end = 0

    def __enter__(self) -> SumWorker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._spool.close()

    @property
    def pid(self) -> int | None:
        """The process, where one runs."""
        return self._process.pid if self._process else None

    def start(self, count: int) -> None:
        """Begin an empty sum of `count` words."""
        self._count, self._folded, self._end = count, [], 0
        self._ask(_START, [str(count).encode()])

    def parse(self, parts: Sequence[he.Buffer], *, where: str) -> None:
        """Check an upload's ciphertexts, all of them; `fold` adds them then.

        Raises
        ------
        WireError : they aren't ciphertexts of the league, or the process broke over them.
        """
        low, high = he.FRESH_BYTES
        if len(parts) != he.ciphertexts(self._count) or not all(low <= len(part) <= high for part in parts):
            raise WireError("the ciphertexts have an impossible number or length", where=where)
        self._pending = _append(self._spool.fileno(), self._end, parts)
        try:
            self._ask(_PARSE, [_numbers(self._pending)])
        except MachineError:
            self._again()
            raise WireError("a ciphertext broke the process that reads it", where=where) from None
        except WireError as fault:
            raise WireError(fault.what, where=where) from None

    def fold(self) -> None:
        """Add the upload that was parsed last."""
        self._ask(_FOLD, [])
        self._folded.append(self._pending)
        self._end = self._pending[-1]

    def subtract(self, words: Words) -> None:
        """Take known words out of the sum."""
        self._ask(_SUBTRACT, [words.astype("<u8").tobytes()])

    def saved(self) -> list[bytes]:
        """The sum's ciphertexts."""
        return self._ask(_SAVE, [])

    def _again(self) -> None:
        self._stop()
        self._ask(_START, [str(self._count).encode()])
        for places in self._folded:
            self._ask(_PARSE, [_numbers(places)])
            self._ask(_FOLD, [])

    def _ask(self, meaning: int, parts: Sequence[bytes]) -> list[bytes]:
        pipes = self._started()
        limit = time.monotonic() + self._patience_s * (1 + he.ciphertexts(self._count) / 1000)
        try:
            _write(pipes[0], meaning, parts)
            if not select.select([pipes[1]], [], [], max(0.0, limit - time.monotonic()))[0]:
                raise EOFError
            answer, found = _read(pipes[1])
        except (OSError, EOFError):
            self._stop()
            raise MachineError("the process that sums ciphertexts broke", where="coordinator") from None
        if answer != _DONE:
            raise WireError(found[0].decode(errors="replace"), where="sum")
        return found

    def _started(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            root = str(Path(__file__).resolve().parents[1])
            paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
            environment["OPENBLAS_NUM_THREADS"] = "1"
            uploads = os.open(f"/proc/self/fd/{self._spool.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and text
                [sys.executable, "-c", _PROGRAM, str(uploads)], pass_fds=[uploads], env=environment,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            os.close(uploads)
        asked, answers = self._process.stdin, self._process.stdout
        if asked is None or answers is None:
            raise MachineError("the process that sums ciphertexts has no pipes", where="coordinator")
        return asked, answers

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    continue  # what was still to be written has no reader any more


def serve(asked: IO[bytes], answers: IO[bytes], uploads: int) -> None:
    """The process: one frame in, one frame out, until the coordinator closes the pipe.

    Parameters
    ----------
    uploads : descriptor of the file that the coordinator writes uploads into.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    scheme = he.scheme()
    total, pending, room = he.Sum(scheme, 0), None, bytearray()
    while True:
        try:
            meaning, parts = _read(asked)
        except EOFError:
            return
        try:
            found: list[bytes] = []
            if meaning == _START:
                count = int(parts[0])
                total, pending = he.Sum(scheme, count), None
                _limit(count)
                room = bytearray(he.ciphertexts(count) * he.FRESH_BYTES[1])
            elif meaning == _PARSE:
                pending = total.parse(_cut(uploads, room, parts[0]), where="sum")
            elif meaning == _FOLD and pending is not None:
                total.add(pending)
                pending = None
            elif meaning == _SUBTRACT:
                total.subtract(np.frombuffer(parts[0], dtype="<u8"))
            elif meaning == _SAVE:
                found = total.saved()
            _write(answers, _DONE, found)
        except WireError as fault:
            _write(answers, _REFUSED, [fault.what.encode()])


def _limit(count: int) -> None:
    """Address space for a sum, two uploads of it as objects, the bytes in and out, and a little room."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * os.sysconf("SC_PAGE_SIZE") + _ROOM + he.ciphertexts(count) * 8 * he.SUM_BYTES[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _cut(file: int, room: bytearray, places: bytes) -> list[he.Buffer]:
    """An upload's ciphertexts as views of `room`, used again and again: fresh memory costs more than reading."""
    ends: list[int] = np.frombuffer(places, dtype="<u8").tolist()
    whole = memoryview(room)[: ends[-1] - ends[0]]
    os.preadv(file, [whole], ends[0])
    return [whole[start - ends[0] : stop - ends[0]] for start, stop in itertools.pairwise(ends)]


def _append(file: int, start: int, parts: Sequence[he.Buffer]) -> list[int]:
    """Write an upload's ciphertexts from `start` on; where each begins, and where the last one ends."""
    places = [start]
    for part in parts:
        os.pwrite(file, part, places[-1])
        places.append(places[-1] + len(part))
    return places


def _numbers(values: Sequence[int]) -> bytes:
    return np.array(values, dtype="<u8").tobytes()


def _write(pipe: IO[bytes], meaning: int, parts: Sequence[bytes]) -> None:
    head = bytes([meaning]) + b"".join(n.to_bytes(4, "big") for n in (len(parts), *map(len, parts)))
    pipe.writelines([head, *parts])
    pipe.flush()


def _read(pipe: IO[bytes]) -> tuple[int, list[bytes]]:
    meaning = _exactly(pipe, 1)[0]
    count = int.from_bytes(_exactly(pipe, 4), "big")
    lengths = [int.from_bytes(_exactly(pipe, 4), "big") for _ in range(count)]
    return meaning, [_exactly(pipe, length) for length in lengths]


def _exactly(pipe: IO[bytes], length: int) -> bytes:
    data: bytes = pipe.read(length)
    if len(data) != length:
        raise EOFError
    return data
