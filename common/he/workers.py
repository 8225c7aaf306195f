"""Keys used in other processes, for two reasons: to spread an update over several cores, or to keep a key `apart`.

SEAL's bindings don't let other threads run, so more cores need more processes. Invariants: the results are those of the
key itself; the secret reaches the processes through their pipes only.
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
    """Some processes that use keys of one scheme.

    Parameters
    ----------
    name : the scheme's name.
    size : the number of processes, one or more.
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
            return [ciphertext for member, _ in slices for ciphertext in member.answer()]

    def decrypt(self, secret: bytes, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        """The values of a sum.

        Raises
        ------
        WireError : the parts aren't a sum under this key, or crashed the process that reads them.
        """
        self.scheme.require_number(parts, count, where=where)
        slots, slices = self.scheme.slots, self._slices(count)
        dtype = "<u8" if self.scheme.exact else "<f8"
        with self._lock:
            try:
                for member, part in slices:
                    own_parts = parts[part.start // slots : -(-part.stop // slots)]
                    self._key(member, secret)
                    request = [str(part.stop - part.start).encode(), *own_parts]
                    member.send(limited_process.DECRYPT, request, ciphertexts=len(own_parts))
                values = [np.frombuffer(member.answer()[0], dtype=dtype) for member, _ in slices]
            except (MachineError, WireError) as fault:
                for member, _ in slices:
                    member.stop()  # an answer that wasn't read would be taken for that of the next question
                raise WireError(fault.what, where=where) from None
        return np.concatenate(values)

    def _key(self, member: LimitedProcess, secret: bytes) -> None:
        member.ask(limited_process.KEY, [secret])

    def _slices(self, count: int) -> list[tuple[LimitedProcess, slice]]:
        """The range of values of each member, in whole ciphertexts."""
        step = -(-self.scheme.ciphertexts(count) // len(self._members)) * self.scheme.slots
        starts = range(0, count, step)
        return [
            (member, slice(start, min(start + step, count)))
            for member, start in zip(self._members, starts, strict=False)
        ]


class CrewKey(Key):
    """A key that a crew of processes uses."""

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
    """The crew of a scheme and size, one per process."""
    return Crew(name, size)


def key_of(name: str, secret: bytes | None = None, processes: int = 0) -> Key:
    """A key of a scheme, in `processes` other processes or in this one; a scheme marked `apart` uses at least one."""
    chosen = scheme(name)
    if processes or chosen.apart:
        return CrewKey(crew(name, max(1, processes)), secret)
    return chosen.key(secret)


def _stop(members: list[LimitedProcess]) -> None:
    for member in members:
        member.stop()
