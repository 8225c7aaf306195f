"""A process with limited memory and time, so that a peer's hostile ciphertext can break this process and nothing else.

The coordinator's sums are in such a process (`server.secagg.sum_worker`), and so are the keys of a scheme marked
`apart`. Invariants: its address space is what a sum needs plus `ROOM`; the processor time of a step is bounded; it ends
when its pipes are closed.

Frames, in both directions: one byte of meaning, u32 number of parts, u32 length of each part, the parts. Uploads aren't
sent in frames: the process reads them from a file, at the places in the frame.
"""

from __future__ import annotations

import itertools
import os
import resource
import select
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from common.errors import MachineError, WireError
from common.files import PROJECT
from common.he.cipher import Buffer, Key, Scheme, Sum, Values
from common.he.schemes import scheme
from common.runtime.processes import ONE_THREAD

ROOM = 48 << 20
PATIENCE_S = 20.0
START, PARSE, FOLD, SUBTRACT, SAVE, KEY, SECRET, ENCRYPT, DECRYPT = b"sPfuvkKed"
_DONE, _REFUSED = b"+-"
_PROGRAM = (
    "import sys; from common.he.limited_process import serve; "
    "serve(sys.stdin.buffer, sys.stdout.buffer, sys.argv[1], int(sys.argv[2]))"
)


class LimitedProcess:
    """One such process, started by the first question.

    Parameters
    ----------
    name : the scheme's name.
    uploads : descriptor of the file of uploads; negative if there is none.
    patience_s : how long one step may take per 1,000 ciphertexts before the process counts as hung.
    """

    def __init__(self, name: str, uploads: int = -1, patience_s: float = PATIENCE_S) -> None:
        self._name, self._uploads, self._patience_s = name, uploads, patience_s
        self._process: subprocess.Popen[bytes] | None = None
        self._until = 0.0

    @property
    def pid(self) -> int | None:
        """The process id, if a process runs."""
        return self._process.pid if self._process else None

    def ask(self, meaning: int, parts: Sequence[Buffer], *, ciphertexts: int = 0) -> list[bytes]:
        """Run one step; returns its answer.

        Raises
        ------
        WireError : the step was refused.
        MachineError : the process crashed or hung.
        """
        self.send(meaning, parts, ciphertexts=ciphertexts)
        return self.answer()

    def send(self, meaning: int, parts: Sequence[Buffer], *, ciphertexts: int = 0) -> None:
        """The first half of `ask`: send the question."""
        seconds = self._patience_s * (1 + ciphertexts / 1000)
        self._until = time.monotonic() + seconds
        try:
            _write(self._pipes()[0], meaning, [str(int(seconds) + 1).encode(), *parts])
        except OSError:
            self.stop()
            raise MachineError("the process that reads ciphertexts broke", where=self._name) from None

    def answer(self) -> list[bytes]:
        """The second half of `ask`: wait for the answer."""
        pipe = self._pipes()[1]
        try:
            if not select.select([pipe], [], [], max(0.0, self._until - time.monotonic()))[0]:
                raise EOFError
            meaning, parts = _read(pipe)
        except (OSError, EOFError):
            self.stop()
            raise MachineError("the process that reads ciphertexts broke", where=self._name) from None
        if meaning != _DONE:
            raise WireError(parts[0].decode(errors="replace"), where="sum")
        return parts

    def stop(self) -> None:
        """End the process; the next question starts another."""
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
                    continue  # nobody reads any more what was still to be written

    def _pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._process is None:
            root = str(PROJECT)
            paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
            environment = {**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(paths)}
            descriptor = -1 if self._uploads < 0 else os.open(f"/proc/self/fd/{self._uploads}", os.O_RDONLY)
            self._process = subprocess.Popen(  # noqa: S603 - our own interpreter and text
                [sys.executable, "-c", _PROGRAM, self._name, str(descriptor)], env=environment,
                pass_fds=[] if descriptor < 0 else [descriptor],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            if descriptor >= 0:
                os.close(descriptor)
        questions, answers = self._process.stdin, self._process.stdout
        if questions is None or answers is None:
            raise MachineError("the process that reads ciphertexts has no pipes", where=self._name)
        return questions, answers


def serve(questions: IO[bytes], answers: IO[bytes], name: str, uploads: int) -> None:
    """The process's main loop: one frame in, one frame out, until the pipe is closed."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    served = _Served(scheme(name), uploads)
    while True:
        try:
            meaning, parts = _read(questions)
        except EOFError:
            return
        _allow_seconds(int(parts[0]))
        try:
            answer = served.step(meaning, parts[1:])
            _write(answers, _DONE, answer)
        except WireError as fault:
            _write(answers, _REFUSED, [fault.what.encode()])


class _Served:
    """The sum and the key that the process holds."""

    def __init__(self, scheme: Scheme, uploads: int) -> None:
        self._scheme, self._uploads = scheme, uploads
        self._total: Sum = scheme.sum(0)
        self._pending: object = None
        self._room = bytearray()
        self._key: Key | None = None
        self._secret = b""

    def step(self, meaning: int, parts: list[bytes]) -> list[bytes]:
        if meaning == START:
            self._start(int(parts[0]))
        elif meaning == PARSE:
            self._pending = None
            self._pending = self._total.parse(_cut(self._uploads, self._room, parts[0]), where="sum")
        elif meaning == FOLD and self._pending is not None:
            self._total.add(self._pending)
            self._pending = None
        elif meaning == SUBTRACT:
            self._total.subtract(self._values(parts[0]))
        elif meaning == SAVE:
            return self._total.saved()
        elif meaning == KEY:
            self._take(parts[0])
        elif meaning == SECRET:
            return [self._scheme.key().secret()]
        elif self._key is not None and meaning == ENCRYPT:
            return self._key.encrypt(self._values(parts[0]))
        elif self._key is not None and meaning == DECRYPT:
            return [self._key.decrypt(parts[1:], int(parts[0]), where="sum").tobytes()]
        return []

    def _start(self, count: int) -> None:
        self._total, self._pending = self._scheme.sum(count), None
        self._room = bytearray()
        number = self._scheme.ciphertexts(count)
        _allow_bytes(number * 8 * self._scheme.sum_bytes[1])
        self._room = bytearray(number * self._scheme.fresh_bytes[1])

    def _take(self, secret: bytes) -> None:
        if self._key is None or secret != self._secret:
            self._key, self._secret = self._scheme.key(secret), secret

    def _values(self, data: bytes) -> Values:
        return np.frombuffer(data, dtype="<u8" if self._scheme.exact else "<f8")


def _allow_bytes(most: int) -> None:
    """Limit the address space to what is in use now, plus `most` bytes for sum and uploads, plus `ROOM`."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    soft = pages * os.sysconf("SC_PAGE_SIZE") + ROOM + most
    resource.setrlimit(resource.RLIMIT_AS, (soft, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _allow_seconds(seconds: int) -> None:
    """Limit the processor time of the next step; the system kills a process that takes more."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
    resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _cut(file: int, room: bytearray, places: bytes) -> list[Buffer]:
    """An upload's ciphertexts as views of `room`, which is reused: allocating memory costs more than reading."""
    ends: list[int] = np.frombuffer(places, dtype="<u8").tolist()
    whole = memoryview(room)[: ends[-1] - ends[0]]
    os.preadv(file, [whole], ends[0])
    return [whole[start - ends[0] : stop - ends[0]] for start, stop in itertools.pairwise(ends)]


def _write(pipe: IO[bytes], meaning: int, parts: Sequence[Buffer]) -> None:
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
