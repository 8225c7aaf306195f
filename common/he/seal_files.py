"""SEAL's objects to and from bytes, through a file in memory; and the checks on bytes that came from elsewhere.

Invariant: bounds on the length, the header and the stated length come before SEAL sees a byte; size, degree, modulus,
parameters and form are compared after. SEAL reads and writes paths only, hence memfd.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import tenseal.sealapi as seal

from common.errors import MachineError, WireError
from common.he.cipher import Buffer

_MAGIC = b"\x5e\xa1\x10"


class SealFiles:
    """A context, and one file in memory for all that goes in and out.

    Parameters
    ----------
    level : the security level that SEAL must grant.

    Raises
    ------
    MachineError : this build of SEAL refuses the parameters at that level.
    """

    def __init__(self, parameters: seal.EncryptionParameters, level: seal.SEC_LEVEL_TYPE) -> None:
        self.context = seal.SEALContext(parameters, True, level)
        if not self.context.parameters_set():
            why = self.context.parameters_error_name()
            raise MachineError("the encryption parameters are refused", where="SEAL", why=why)
        self._fd = os.memfd_create("hansa-seal", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._fd)
        self._held, self._lock = 0, threading.RLock()

    @contextmanager
    def file(self, data: Buffer = b"") -> Iterator[str]:
        """A path in memory that holds `data`, which SEAL may read."""
        with self._lock:
            os.pwrite(self._fd, data, 0)
            if len(data) < self._held:  # pages are kept from one ciphertext to the next: new ones cost most
                os.ftruncate(self._fd, len(data))
            self._held = len(data)
            yield f"/proc/self/fd/{self._fd}"

    def saved(self, thing: Any) -> bytes:
        """SEAL's own serial form of an object of its own."""
        with self.file() as path:
            thing.save(path)
            self._held = os.fstat(self._fd).st_size
            return os.pread(self._fd, self._held, 0)

    def secret_key(self, data: bytes) -> seal.SecretKey:
        """A key from its bytes.

        Raises
        ------
        WireError : it is no key of these parameters.
        """
        found = seal.SecretKey()
        try:
            with self.file(data) as path:
                found.load(self.context, path)
        except (RuntimeError, ValueError):
            raise WireError("the league's key can't be read", where="key") from None
        return found

    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, ntt: bool, where: str) -> seal.Ciphertext:
        """Parse a ciphertext and compare everything that its bytes could lie about.

        Raises
        ------
        WireError : it isn't a two-part ciphertext of these parameters.
        """
        check_header(data, bounds, where=where)
        found = seal.Ciphertext()
        try:
            with self.file(data) as path:
                found.load(self.context, path)
        except (RuntimeError, ValueError, IndexError, MemoryError):
            raise WireError("a ciphertext can't be read", where=where) from None
        first = self.context.first_context_data().parms()
        fits = (
            found.size() == 2
            and found.poly_modulus_degree() == first.poly_modulus_degree()
            and found.coeff_modulus_size() == len(first.coeff_modulus())
            and found.parms_id() == self.context.first_parms_id()
            and found.is_ntt_form() == ntt
            and not found.is_transparent()
        )
        if not fits:
            raise WireError("a ciphertext has other parameters", where=where)
        return found


def check_header(data: Buffer, bounds: tuple[int, int], *, where: str) -> None:
    """What can be said of a ciphertext before SEAL sees it.

    Raises
    ------
    WireError : its length is impossible, or it has no header that states it.
    """
    if not bounds[0] <= len(data) <= bounds[1] or data[:3] != _MAGIC:
        raise WireError("a ciphertext has an impossible length or no header", where=where)
    if int.from_bytes(data[8:16], "little") != len(data):
        raise WireError("a ciphertext states another length", where=where)
