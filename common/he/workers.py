"""Keys at work in other processes: chunks of one update over several cores, and keys that must stay apart.

No binding of SEAL lets other threads run, so more cores need more processes; a scheme marked `apart` has its keys in
one too. Invariant: the results are those of the key itself; the secret reaches the processes by their pipes only.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Sequence
from functools import cache

import numpy as np

from common.errors import MachineError, WireError
from common.he import limited_process
from common.he.cipher import Buffer, Key, Values
from common.he.limited_process import LimitedProcess
from common.he.schemes import scheme


class Crew:
    """Some processes of one scheme.

    Parameters
    ----------
    name : of the scheme.
    size : processes, one or more.
    """

    def __init__(self, name: str, size: int) -> None:
        self.scheme = scheme(name)
        self._members = [LimitedProcess(name) for _ in range(size)]
        self._lock = threading.Lock()
        weakref.finalize(self, _stop, self._members)

    def new_secret(self) -> bytes:
        """A new key's bytes."""
        with self._lock:
            return self._members[0].ask(limited_process.SECRET, [])[0]

    def encrypt(self, secret: bytes, values: Values) -> list[bytes]:
        """Fresh ciphertexts, in order."""
        slices = self._slices(len(values))
        with self._lock:
            for member, part in slices:
                self._key(member, secret)
                member.send(limited_process.ENCRYPT, [values[part].tobytes()], ciphertexts=len(values))
            return [found for member, _ in slices for found in member.answer()]

    def decrypt(self, secret: bytes, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        """The values of a sum.

        Raises
        ------
        WireError : the parts aren't a sum of this key, or broke the process that reads them.
        """
        self.scheme.require_number(parts, count, where=where)
        slots, slices = self.scheme.slots, self._slices(count)
        dtype = "<u8" if self.scheme.exact else "<f8"
        with self._lock:
            try:
                for member, part in slices:
                    some = parts[part.start // slots : -(-part.stop // slots)]
                    self._key(member, secret)
                    told = [str(part.stop - part.start).encode(), *some]
                    member.send(limited_process.DECRYPT, told, ciphertexts=len(some))
                found = [np.frombuffer(member.answer()[0], dtype=dtype) for member, _ in slices]
            except (MachineError, WireError) as fault:
                for member, _ in slices:
                    member.stop()  # answers that nobody took would be taken for those of the next question
                raise WireError(fault.what, where=where) from None
        return np.concatenate(found)

    def _key(self, member: LimitedProcess, secret: bytes) -> None:
        member.ask(limited_process.KEY, [secret])

    def _slices(self, count: int) -> list[tuple[LimitedProcess, slice]]:
        """Whole ciphertexts for each member."""
        each = -(-self.scheme.ciphertexts(count) // len(self._members)) * self.scheme.slots
        starts = range(0, count, each)
        return [
            (member, slice(start, min(start + each, count)))
            for member, start in zip(self._members, starts, strict=False)
        ]


class CrewKey(Key):
    """A key that a crew uses."""

    def __init__(self, crew: Crew, secret: bytes | None = None) -> None:
        self._crew = crew
        self._secret = crew.new_secret() if secret is None else secret

    def secret(self) -> bytes:
        return self._secret

    def encrypt(self, values: Values) -> list[bytes]:
        return self._crew.encrypt(self._secret, values)

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        return self._crew.decrypt(self._secret, parts, count, where=where)


@cache
def crew(name: str, size: int) -> Crew:
    """This process's crew."""
    return Crew(name, size)


def key_of(name: str, secret: bytes | None = None, processes: int = 0) -> Key:
    """A key of a scheme: in this process, or in as many others; one at least where the scheme wants it apart."""
    found = scheme(name)
    if processes or found.apart:
        return CrewKey(crew(name, max(1, processes)), secret)
    return found.key(secret)


def _stop(members: list[LimitedProcess]) -> None:
    for member in members:
        member.stop()
