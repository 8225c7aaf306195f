"""SEAL's objects to and from bytes, through a file in memory, with checks on bytes that came from elsewhere.

Invariant: the length, the header and the length stated in it are checked before SEAL reads a byte; size, degree,
modulus, parameters and form are compared afterwards. SEAL reads and writes only paths, hence the memory file (memfd).
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
    """A SEAL context, and one file in memory through which all objects are read and written.

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
        """The path of a file in memory that holds `data`."""
        with self._lock:
            os.pwrite(self._fd, data, 0)
            if len(data) < self._held:  # memory pages are reused: allocating new ones is the greatest cost
                os.ftruncate(self._fd, len(data))
            self._held = len(data)
            yield f"/proc/self/fd/{self._fd}"

    def saved(self, item: Any) -> bytes:
        """A SEAL object in SEAL's own serialised form."""
        with self.file() as path:
            item.save(path)
            self._held = os.fstat(self._fd).st_size
            return os.pread(self._fd, self._held, 0)

    def secret_key(self, data: bytes) -> seal.SecretKey:
        """A key from its bytes.

        Raises
        ------
        WireError : it isn't a key of these parameters.
        """
        key = seal.SecretKey()
        try:
            with self.file(data) as path:
                key.load(self.context, path)
        except (RuntimeError, ValueError):
            raise WireError("the league's key can't be read", where="key") from None
        return key

    def ciphertext(self, data: Buffer, bounds: tuple[int, int], *, ntt: bool, where: str) -> seal.Ciphertext:
        """Parse a ciphertext and check every property that forged bytes could change.

        Raises
        ------
        WireError : it isn't a two-part ciphertext of these parameters.
        """
        check_header(data, bounds, where=where)
        parsed = seal.Ciphertext()
        try:
            with self.file(data) as path:
                parsed.load(self.context, path)
        except (RuntimeError, ValueError, IndexError, MemoryError):
            raise WireError("a ciphertext can't be read", where=where) from None
        first = self.context.first_context_data().parms()
        fits = (
            parsed.size() == 2
            and parsed.poly_modulus_degree() == first.poly_modulus_degree()
            and parsed.coeff_modulus_size() == len(first.coeff_modulus())
            and parsed.parms_id() == self.context.first_parms_id()
            and parsed.is_ntt_form() == ntt
            and not parsed.is_transparent()
        )
        if not fits:
            raise WireError("a ciphertext has other parameters", where=where)
        return parsed


def check_header(data: Buffer, bounds: tuple[int, int], *, where: str) -> None:
    """Check what can be checked of a ciphertext before SEAL reads it.

    Raises
    ------
    WireError : its length is impossible, or its header is missing or states another length.
    """
    if not bounds[0] <= len(data) <= bounds[1] or data[:3] != _MAGIC:
        raise WireError("a ciphertext has an impossible length or no header", where=where)
    if int.from_bytes(data[8:16], "little") != len(data):
        raise WireError("a ciphertext states another length", where=where)
