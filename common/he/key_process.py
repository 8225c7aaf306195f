"""Keys that another process uses, for schemes marked `apart`: no parser of a peer's bytes stands beside a site's data.

Invariants: the results are those of the key itself; the secret reaches the process through its pipe only.
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


class KeyProcess:
    """A process that uses keys of one scheme."""

    def __init__(self, name: str) -> None:
        self._scheme, self._process = scheme(name), LimitedProcess(name)
        self._lock = threading.Lock()
        weakref.finalize(self, self._process.stop)

    def new_secret(self) -> bytes:
        """A new key's bytes."""
        with self._lock:
            return self._process.ask(limited_process.SECRET, [])[0]

    def encrypt(self, secret: bytes, values: Values) -> list[bytes]:
        """Fresh ciphertexts, in order."""
        with self._lock:
            self._process.ask(limited_process.KEY, [secret])
            return self._process.ask(limited_process.ENCRYPT, [values.tobytes()], ciphertexts=len(values))

    def decrypt(self, secret: bytes, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        """The values of a sum.

        Raises
        ------
        WireError : the parts aren't a sum under this key, or crashed the process that reads them.
        """
        self._scheme.require_number(parts, count, where=where)
        with self._lock:
            try:
                self._process.ask(limited_process.KEY, [secret])
                request = [str(count).encode(), *parts]
                [data] = self._process.ask(limited_process.DECRYPT, request, ciphertexts=len(parts))
            except (MachineError, WireError) as fault:
                self._process.stop()  # an answer that wasn't read would be taken for that of the next question
                raise WireError(fault.what, where=where) from None
        return np.frombuffer(data, dtype="<u8" if self._scheme.exact else "<f8").copy()


class KeyApart(Key):
    """A key that another process uses."""

    def __init__(self, process: KeyProcess, secret: bytes | None = None) -> None:
        self._process = process
        self._secret = process.new_secret() if secret is None else secret

    def secret(self) -> bytes:
        return self._secret

    def encrypt(self, values: Values) -> list[bytes]:
        return self._process.encrypt(self._secret, values)

    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        return self._process.decrypt(self._secret, parts, count, where=where)


@cache
def key_process(name: str) -> KeyProcess:
    """The process of a scheme, one for each process of ours."""
    return KeyProcess(name)


def key_of(name: str, secret: bytes | None = None) -> Key:
    """A key of a scheme, in this process, or in another one for a scheme marked `apart`."""
    chosen = scheme(name)
    return KeyApart(key_process(name), secret) if chosen.apart else chosen.key(secret)
