"""An append-only log that can't be edited unnoticed: JSON lines, each with the hash of the one before and a signature.

Invariants: `append` returns only after fsync, so a caller that logs before it acts never acts without an entry. Entry n
holds the SHA-256 of line n − 1. A line torn by a crash is moved aside (`NAME.torn`); nothing else is ever rewritten. A
log that was cut at the end of a line is still a valid chain; to notice a cut, keep a `Receipt` of the head elsewhere.

The signature covers the bytes ``b"hansa audit 1\\n"`` followed by the entry as canonical JSON (sorted keys, no spaces,
UTF-8) without its `signature`. Ed25519: RFC 8032.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.canonical import canonical
from common.crypto.keys import signer_id
from common.errors import HansaError
from common.files import sync_folder
from common.runtime.locks import locked

JSON = str | int | float | bool | None | list[Any] | dict[str, Any]
_DOMAIN = b"hansa audit 1\n"


class AuditError(HansaError):
    """The log was edited, cut or can't be written."""

    exit_code = 9


@dataclass(frozen=True)
class Entry:
    """One line: its number from 0, UTC time, kind, facts, who signed, and the hash of its bytes."""

    n: int
    at: str
    kind: str
    facts: dict[str, JSON]
    by: str
    hash: str


@dataclass(frozen=True)
class Receipt:
    """The head of a log at one moment, kept elsewhere: `verify` notices if the log no longer holds this entry."""

    n: int
    hash: str


START = Receipt(-1, "0" * 64)
"""The head of a log without entries."""


class AuditLog:
    """Appends to a log file; several processes may append to the same file in turn."""

    def __init__(self, path: Path, signing_key: Ed25519PrivateKey) -> None:
        self.path, self._key = path, signing_key

    @classmethod
    def open(cls, path: Path, signing_key: Ed25519PrivateKey) -> AuditLog:
        """Open or start a log; an incomplete last line, left by a crash, is moved aside.

        Raises
        ------
        AuditError : the file can't be written, or its last line isn't an entry.
        """
        log = cls(path, signing_key)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with log._locked() as handle:
                log._head(handle)
        except OSError as fault:
            raise _unwritable(path, fault) from None
        return log

    def append(self, kind: str, facts: dict[str, JSON]) -> Entry:
        """Sign and write one entry; it is on the disk when this returns.

        Raises
        ------
        AuditError : it can't be written; the caller must not go on.
        """
        try:
            with self._locked() as handle:
                entry, line = signed_line(self._head(handle), kind, facts, self._key)
                _write_line(handle, line + b"\n")
        except (OSError, TypeError, ValueError) as fault:
            raise _unwritable(self.path, fault) from None
        return entry

    def receipt(self) -> Receipt:
        """The head as it is now; `n` is -1 for an empty log."""
        try:
            with self._locked() as handle:
                return self._head(handle)
        except OSError as fault:
            raise _unwritable(self.path, fault) from None

    @contextlib.contextmanager
    def _locked(self) -> Iterator[int]:
        fresh = not self.path.exists()
        with locked(self.path, os.O_APPEND) as handle:
            if fresh:
                sync_folder(self.path.parent)
            yield handle

    def _head(self, handle: int) -> Receipt:
        size = os.fstat(handle).st_size
        tail, start = b"", size
        # Read back from the end until the last whole line stands in `tail`.
        while start and tail[:-1].count(b"\n") < 2:
            step = min(1 << 16, start)
            start -= step
            tail = os.pread(handle, step, start) + tail
        whole, end, torn = tail.rpartition(b"\n")
        if torn:
            self._set_aside(handle, torn, size - len(torn))
        if not whole and not end:
            return START
        line = whole.rpartition(b"\n")[2]
        try:
            return Receipt(int(json.loads(line)["n"]), hashlib.sha256(line).hexdigest())
        except (ValueError, KeyError, TypeError):
            raise AuditError("the log's last line isn't an entry", where=str(self.path)) from None

    def _set_aside(self, handle: int, torn: bytes, whole_bytes: int) -> None:
        with self.path.with_name(self.path.name + ".torn").open("ab") as aside:
            aside.write(torn + b"\n")
            aside.flush()
            os.fsync(aside.fileno())
        os.ftruncate(handle, whole_bytes)
        os.fsync(handle)


def signed_line(
    head: Receipt, kind: str, facts: dict[str, JSON], key: Ed25519PrivateKey, at: datetime | None = None
) -> tuple[Entry, bytes]:
    """The entry that follows `head`, and its line without the line feed, for logs that aren't kept in a file.

    Parameters
    ----------
    at : the entry's time; now if not given.

    Raises
    ------
    TypeError, ValueError : the facts aren't JSON.
    """
    record: dict[str, Any] = {
        "n": head.n + 1,
        "at": (at or datetime.now(UTC)).isoformat(timespec="milliseconds"),
        "kind": kind,
        "facts": facts,
        "by": signer_id(key.public_key()),
        "previous": head.hash,
    }
    record["signature"] = key.sign(_DOMAIN + _canonical(record)).hex()
    line = _canonical(record)
    return _entry(record, line), line


def verify(
    path: Path, public_key: Ed25519PublicKey | Iterable[Ed25519PublicKey], receipt: Receipt | None = None
) -> list[Entry]:
    """All entries, if every number, hash and signature is right. A torn last line is ignored.

    Parameters
    ----------
    public_key : the keys that may sign.
    receipt : a head kept elsewhere; the log must still hold it.

    Raises
    ------
    AuditError : names the first fault and its line.
    """
    try:
        data = path.read_bytes()
    except OSError as fault:
        raise AuditError("the log can't be read", where=str(path), why=str(fault.strerror)) from None
    return verify_lines(data, public_key, receipt, where=str(path))


def verify_lines(
    data: bytes,
    public_key: Ed25519PublicKey | Iterable[Ed25519PublicKey],
    receipt: Receipt | None = None,
    *,
    where: str,
) -> list[Entry]:
    """Like `verify`, for the bytes of a log.

    Raises
    ------
    AuditError : as `verify`.
    """
    keys = [public_key] if isinstance(public_key, Ed25519PublicKey) else list(public_key)
    signers = {signer_id(key): key for key in keys}
    entries, previous = [], START.hash
    for number, line in enumerate(data.split(b"\n")[:-1]):
        entry = _checked(line, number, previous, signers, f"{where}, line {number + 1}")
        previous = entry.hash
        entries.append(entry)
    if receipt is not None and receipt.n >= 0:
        hash_in_log = entries[receipt.n].hash if receipt.n < len(entries) else ""
        if hash_in_log != receipt.hash:
            raise AuditError(
                "the log lacks entries that it once had", where=where, why="it was cut or replaced"
            )
    return entries


def _checked(
    line: bytes, number: int, previous: str, signers: dict[str, Ed25519PublicKey], where: str
) -> Entry:
    try:
        record = json.loads(line)
        entry = _entry(record, line)
        signature = bytes.fromhex(record.pop("signature"))
        if _canonical(record | {"signature": signature.hex()}) != line:
            raise AuditError("an entry isn't in canonical form", where=where)
        if record["n"] != number or record["previous"] != previous:
            raise AuditError("the chain is broken", where=where, why="an entry was removed, added or moved")
        signers[entry.by].verify(signature, _DOMAIN + _canonical(record))
    except InvalidSignature:
        raise AuditError("a signature is wrong", where=where, why="the entry was edited") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise AuditError("an entry can't be read, or its signer isn't known", where=where) from None
    return entry


def _entry(record: dict[str, Any], line: bytes) -> Entry:
    digest = hashlib.sha256(line).hexdigest()
    return Entry(record["n"], record["at"], record["kind"], record["facts"], record["by"], digest)


def _canonical(record: dict[str, Any]) -> bytes:
    return canonical(record, ascii_only=False, allow_nan=False)


def _write_line(handle: int, line: bytes) -> None:
    while line:
        line = line[os.write(handle, line) :]
    os.fsync(handle)


def _unwritable(path: Path, fault: Exception) -> AuditError:
    why = str(fault.strerror) if isinstance(fault, OSError) else type(fault).__name__
    return AuditError(
        "the log can't be written", where=str(path), why=why, next_step="nothing was opened or changed"
    )
