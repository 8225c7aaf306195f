"""Where a ledger's lines are stored: in a private folder of the site, or sealed in its vault.

Beside the lines there is an *anchor*: number and hash of the last entry, written after it. It shows if lines were cut
or the ledger was deleted; a crash between the two writes leaves the anchor one entry behind. Invariants: `append`
returns only when the line is on the disk; a line torn by a crash is moved aside, never repaired.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from pathlib import Path
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from clients.vault import Vault
from common.audit import AuditError, Receipt, verify
from common.crypto.envelope import EnvelopeError
from common.errors import PrivacyError
from common.files import sync_folder, write_whole

LINES, KEY, ANCHOR, LOCK = "ledger.jsonl", "ledger.key", "ledger.anchor", ".ledger.lock"
PART_LINES = 200


class LedgerStore(Protocol):
    """Keeps the lines of one ledger."""

    where: str
    folder: Path
    lock: Path

    def exists(self) -> bool:
        """Whether there is, or was, a ledger here."""

    def create(self, line: bytes, anchor: Receipt) -> None:
        """Begin a ledger with its first line, whole or not at all."""

    def read(self) -> bytes:
        """All lines, each with its line feed; anything after the last one is torn. Call `exists` before it."""

    def append(self, data: bytes, line: bytes) -> None:
        """Add a line to `data`, which `read` returned under the same lock."""

    def set_aside(self) -> None:
        """Move a ledger that can't be trusted out of the way, for a new one."""

    def signing(self) -> Ed25519PrivateKey:
        """The key that signs what this process writes."""

    def signers(self) -> list[Ed25519PublicKey]:
        """Keys whose signature counts."""


def refused_file(store: LedgerStore) -> Path:
    """The file of a head that the coordinator has seen and the ledger lacks; `write_off` reads it."""
    return store.lock.with_name(store.lock.name.replace("lock", "refused"))


def read_anchor(store: LedgerStore) -> Receipt | None:
    """The anchor, or None if there is none.

    Raises
    ------
    ValueError : it was edited.
    """
    path = store.folder / ANCHOR
    if not path.exists():
        return None
    data = path.read_bytes()
    stated = json.loads(data)
    anchor = Receipt(int(stated["n"]), str(stated["hash"]))
    if anchor_bytes(anchor) != data:
        raise ValueError("not in its own form")
    return anchor


def write_anchor(store: LedgerStore, head: Receipt) -> None:
    """Write a head as the anchor."""
    write_whole(store.folder / ANCHOR, anchor_bytes(head))


def anchor_bytes(head: Receipt) -> bytes:
    """The anchor as bytes, in its one valid form."""
    return json.dumps({"n": head.n, "hash": head.hash}, separators=(",", ":")).encode()


class FolderStore:
    """A ledger in a folder of mode 0700. A rename makes the folder complete, so a missing file was lost later."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.where = folder, str(folder)
        self.lock = folder.with_name(f".{folder.name}{LOCK}")  # beside the folder, which is made by a rename

    def exists(self) -> bool:
        return self.folder.exists()

    def create(self, line: bytes, anchor: Receipt) -> None:
        folder = self.folder.with_name(f".{self.folder.name}.{secrets.token_hex(4)}.new")
        folder.mkdir(parents=True, mode=0o700)
        try:
            write_whole(folder / KEY, self._fresh.private_bytes_raw().hex().encode())
            write_whole(folder / LINES, line + b"\n")
            write_whole(folder / ANCHOR, anchor_bytes(anchor))
            os.rename(folder, self.folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        sync_folder(self.folder.parent)

    def read(self) -> bytes:
        return (self.folder / LINES).read_bytes()

    def append(self, data: bytes, line: bytes) -> None:
        handle = os.open(self.folder / LINES, os.O_RDWR | os.O_APPEND)
        try:
            whole = data.rpartition(b"\n")[0] + b"\n"
            if len(whole) < len(data):
                with (self.folder / f"{LINES}.torn").open("ab") as aside:
                    aside.write(data[len(whole) :] + b"\n")
                    aside.flush()
                    os.fsync(aside.fileno())
                os.ftruncate(handle, len(whole))
            remaining = line + b"\n"
            while remaining:
                remaining = remaining[os.write(handle, remaining) :]
            os.fsync(handle)
        finally:
            os.close(handle)

    def set_aside(self) -> None:
        if self.folder.exists():
            os.rename(
                self.folder, self.folder.with_name(f"{self.folder.name}.damaged-{secrets.token_hex(4)}")
            )
            sync_folder(self.folder.parent)

    def signing(self) -> Ed25519PrivateKey:
        path = self.folder / KEY
        if not self.folder.exists():
            return self._fresh
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii")))

    def signers(self) -> list[Ed25519PublicKey]:
        return [self.signing().public_key()]

    @property
    def _fresh(self) -> Ed25519PrivateKey:
        if not hasattr(self, "_made"):
            self._made = Ed25519PrivateKey.generate()
        return self._made


class VaultStore:
    """A ledger as objects `ledger/lines-00000`, … of a vault, signed by the role that has opened the vault."""

    def __init__(self, vault: Vault) -> None:
        self._vault, self.where = vault, f"{vault.folder}, ledger"
        # Not in the kind's own folder: there the vault shreds what its index doesn't name.
        self.folder, self.lock = vault.folder, vault.folder / LOCK

    def exists(self) -> bool:
        """Whether there are names in the index, an anchor, or log entries of more than a first write.

        A first write that was logged may have been killed before it took effect, so it alone doesn't count.
        """
        self._vault.refresh("ledger")
        if self._names() or (self.folder / ANCHOR).exists():
            return True
        entries = verify(self._vault.folder / "audit.jsonl", self._vault.facts.log_signers())
        writes = [e.facts for e in entries if e.kind == "write" and e.facts.get("kind") == "ledger"]
        return any(int(str(write["names"])) > 0 and int(str(write["sequence"])) > 1 for write in writes)

    def create(self, line: bytes, anchor: Receipt) -> None:
        self._vault.write("ledger", _part(0), line + b"\n")
        write_whole(self.folder / ANCHOR, anchor_bytes(anchor))

    def read(self) -> bytes:
        return b"".join(self._vault.read("ledger", name) for name in self._names())

    def append(self, data: bytes, line: bytes) -> None:
        lines = data.split(b"\n")[:-1]
        first = len(lines) // PART_LINES * PART_LINES
        body = b"".join(old_line + b"\n" for old_line in [*lines[first:], line])
        self._vault.write("ledger", _part(first // PART_LINES), body)

    def set_aside(self) -> None:
        self._vault.refresh("ledger")
        if names := self._names():
            self._vault.delete("ledger", *names)
        (self.folder / ANCHOR).unlink(missing_ok=True)

    def signing(self) -> Ed25519PrivateKey:
        return self._vault.key.signing

    def signers(self) -> list[Ed25519PublicKey]:
        facts = self._vault.facts
        past = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in facts.past_signers]
        return [*facts.signers("ledger").values(), *past]

    def _names(self) -> list[str]:
        return [name for name in self._vault.names("ledger") if name.startswith("lines-")]


def _part(number: int) -> str:
    return f"lines-{number:05d}"


def broken(store: LedgerStore, fault: Exception) -> PrivacyError:
    """The error of a ledger that can't be trusted."""
    why = {
        AuditError: getattr(fault, "what", ""),
        EnvelopeError: "it was edited, or this role may not read it",
        FileNotFoundError: "a file of it is missing",
    }.get(type(fault), "it can't be read")
    return PrivacyError(
        "the privacy ledger was edited or is damaged", where=store.where, why=why,
        next_step="bring the newest whole copy back; if there is none, 'hansa budget lost' writes the budget off",
    )  # fmt: skip
