"""The vault of one site: named objects of eight kinds, sealed so that only the right roles can open them.

Invariants: only ciphertext is written. A change takes effect when its index is renamed into place, so a kill at any
time leaves either the old or the new content. An opening is in the audit log before a byte is handed out; if the log
can't be written, nothing is opened. Replaced or deleted objects are crypto-shredded at once (their slots are zeroed).

>>> vault = Vault.open(folder, unlock(folder / "keys" / "owner.key", source))   # doctest: +SKIP
>>> vault.write("reviews", "part-0", b"..."); vault.read("reviews", "part-0")     # doctest: +SKIP
b'...'
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from clients.vault.facts import VaultFacts
from clients.vault.index import INDEX_FILE, Extent, Index, context, read_index, write_index
from clients.vault.roles import DEFAULT_RIGHTS, Rights, known_kind
from common.audit import AuditLog
from common.crypto.envelope import EnvelopeError, SealedFile, open_sealed, seal
from common.crypto.keys import PublicRole, RoleKey
from common.crypto.segments import Data
from common.errors import InputError
from common.runtime.locks import locked

FACTS_FILE, LOG_FILE, LOCK_FILE = "vault.json", "audit.jsonl", ".lock"
PACK_BYTES = 64 << 20
_OPEN_PACKS = 64


class Vault:
    """A vault that one role has opened. Close it, or use it in a `with`."""

    def __init__(self, folder: Path, facts: VaultFacts, key: RoleKey, log: AuditLog) -> None:
        self.folder, self.facts, self.log = folder, facts, log
        self.key = key
        self._indexes: dict[str, Index] = {}
        self._open: dict[tuple[str, str], SealedFile] = {}
        self._files = ExitStack()

    @classmethod
    def create(
        cls, folder: Path, owner: RoleKey, roles: Mapping[str, PublicRole] | None = None,
        rights: Rights = DEFAULT_RIGHTS,
    ) -> Vault:  # fmt: skip
        """A new, empty vault.

        Parameters
        ----------
        owner : the owner's keys, with which the new vault is open.
        roles : public keys of the other roles; a role can be added later.

        Raises
        ------
        InputError : there is a vault already.
        AuditError : the log can't be written.
        """
        if (folder / FACTS_FILE).exists():
            raise InputError("there is a vault already", where=str(folder), next_step="open it instead")
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = AuditLog.open(folder / LOG_FILE, owner.signing)
        facts = VaultFacts.new(dict(roles or {}) | {"owner": owner.public()}, rights)
        log.append("vault created", {"vault": facts.id, "roles": sorted(facts.roles)})
        facts.write(folder / FACTS_FILE, owner.signing)
        return cls(folder, facts, owner, log)

    @classmethod
    def open(cls, folder: Path, role_key: RoleKey) -> Vault:
        """Open a vault with a role's unlocked key.

        Raises
        ------
        InputError : there is no vault, its facts were edited, or the key isn't that of the role.
        AuditError : the log can't be written.
        """
        facts = VaultFacts.read(folder / FACTS_FILE)
        listed = facts.roles.get(role_key.role)
        if listed is None or listed.as_dict() != role_key.public().as_dict():
            raise InputError(
                f"this key isn't the one of role '{role_key.role}' here", where=str(folder),
                next_step="use the key that vault init or rotate wrote last",
            )  # fmt: skip
        return cls(folder, facts, role_key, AuditLog.open(folder / LOG_FILE, role_key.signing))

    @property
    def role(self) -> str:
        """The role that has opened the vault."""
        return self.key.role

    def names(self, kind: str) -> list[str]:
        """Names of a kind, sorted."""
        return sorted(self.index(kind).names)

    def size(self, kind: str, name: str) -> int:
        """Bytes of plaintext of one object."""
        return self._place(kind, name).length

    def read(self, kind: str, name: str) -> bytes:
        """The content of one object.

        Raises
        ------
        InputError : there is none of that name.
        EnvelopeError : it can't be opened by this role, or is damaged.
        AuditError : the opening can't be logged.
        """
        try:
            return self._content(kind, name)
        except EnvelopeError:
            # Another process may have sealed the content anew since this one read the index.
            if not self._stale(kind):
                raise
        return self._content(kind, name)

    def view(self, kind: str, name: str) -> memoryview:
        """Like `read`, but without the copy to `bytes`: for large objects."""
        place = self._place(kind, name)
        sealed = self.sealed(kind, place.object)
        return (
            sealed.view()
            if place.length == sealed.size
            else memoryview(sealed.range(place.start, place.length))
        )

    def open_stream(self, kind: str, name: str) -> Iterator[bytes]:
        """The content piece by piece in constant memory; each piece is verified, the whole only at the end.

        Raises
        ------
        as `read`.
        """
        place = self._place(kind, name)
        sealed = self.sealed(kind, place.object)
        if place.length == sealed.size:
            yield from (bytes(part) for part in sealed.stream())
        else:
            yield sealed.range(place.start, place.length)

    def write(self, kind: str, name: str, data: Data | Iterable[Data]) -> None:
        """Seal one object, which replaces any object of that name; chunks may be of any size and number.

        Raises
        ------
        EnvelopeError : the role may not write the kind.
        """
        with self.changing(kind) as index:
            file = self.seal_object(kind, index, data)
            _put(index, name, Extent(file, 0, index.objects[file].size))

    def write_many(self, kind: str, items: Iterable[tuple[str, bytes]]) -> int:
        """Seal many small objects into packs of about 64 MiB, under one change of the index; returns their number.

        Raises
        ------
        EnvelopeError : the role may not write the kind.
        """
        count = 0
        source = iter(items)
        with self.changing(kind) as index:
            while True:
                places: list[tuple[str, int, int]] = []
                file = self.seal_object(kind, index, _packed(source, places))
                if not places:
                    index.objects.pop(file)
                    return count
                for name, start, length in places:
                    _put(index, name, Extent(file, start, length))
                count += len(places)

    def delete(self, kind: str, *names: str) -> None:
        """Remove objects and shred their keys; the other objects of a pack are sealed anew.

        Raises
        ------
        InputError : there is no object of that name.
        """
        with self.changing(kind) as index:
            for name in names:
                if index.names.pop(name, None) is None:
                    raise _nothing(kind)

    @contextmanager
    def changing(self, kind: str) -> Iterator[Index]:
        """Change a kind's index under a lock; packs that lost a name are sealed anew, empty ones shredded.

        Raises
        ------
        EnvelopeError : the role may not write the kind: its signature wouldn't be accepted.
        """
        known_kind(kind)
        if self.role not in {
            role for role, rights in self.facts.rights.items() if rights.get(kind) == "rw"
        } | {"owner"}:
            self.log.append("refused", {"kind": kind, "role": self.role, "wish": "write"})
            raise EnvelopeError
        (self.folder / kind).mkdir(exist_ok=True, mode=0o700)
        with locked(self.folder / LOCK_FILE):
            self._forget(kind)
            before = self.index(kind)
            index = Index(before.sequence + 1, dict(before.objects), dict(before.names))
            try:
                yield index
                self._compact(kind, before, index)
                self.log.append(
                    "write",
                    {"kind": kind, "role": self.role, "sequence": index.sequence, "names": len(index.names)},
                )
                write_index(self.folder, self.facts, kind, self.key, index)
            finally:
                self._forget(kind)
                self._sweep(kind)

    def close(self) -> None:
        """Close the files that are open."""
        self._files.close()
        self._open.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def path_of(self, kind: str, file: str) -> Path:
        """Where an object's ciphertext lies."""
        return self.folder / kind / file

    def _content(self, kind: str, name: str) -> bytes:
        place = self._place(kind, name)
        sealed = self.sealed(kind, place.object)
        return sealed.read() if place.length == sealed.size else sealed.range(place.start, place.length)

    def _stale(self, kind: str) -> bool:
        known = self._indexes.get(kind)
        fresh = read_index(self.folder, self.facts, kind, self.key)
        if known is None or known.sequence == fresh.sequence:
            return False
        self._forget(kind)
        return True

    def _place(self, kind: str, name: str) -> Extent:
        place = self.index(kind).names.get(name)
        if place is None:
            raise _nothing(kind)
        return place

    def index(self, kind: str) -> Index:
        """The kind's verified index, kept in memory; its opening is logged first."""
        if known_kind(kind) not in self._indexes:
            self.log.append("open", {"kind": kind, "role": self.role})
            try:
                self._indexes[kind] = read_index(self.folder, self.facts, kind, self.key)
            except EnvelopeError:
                self.log.append("refused", {"kind": kind, "role": self.role, "wish": "read"})
                raise
        return self._indexes[kind]

    def refresh(self, kind: str) -> None:
        """Read the kind's index anew at the next use: another process may have changed it."""
        self._forget(kind)

    def sealed(self, kind: str, file: str) -> SealedFile:
        """One object of the index, kept open; its opening is logged first."""
        sealed = self._open.get((kind, file))
        if sealed is None:
            self.log.append("open", {"kind": kind, "role": self.role, "object": file})
            if len(self._open) >= _OPEN_PACKS:
                self.close()
            try:
                sealed = self._files.enter_context(
                    open_sealed(
                        self.path_of(kind, file),
                        self.key.encryption,
                        context=context(self.facts.id, kind, file),
                    )
                )
                if sealed.written != self._indexes[kind].objects[file]:
                    raise EnvelopeError
            except EnvelopeError:
                self.log.append("refused", {"kind": kind, "role": self.role, "wish": "read", "object": file})
                raise
            self._open[kind, file] = sealed
        return sealed

    def seal_object(self, kind: str, index: Index, data: Data | Iterable[Data]) -> str:
        """Seal content into a new object of the kind; it takes effect when a name in the index points to it."""
        file = secrets.token_hex(16) + ".hve"
        index.objects[file] = seal(
            self.path_of(kind, file), data, recipients=self.facts.recipients(kind),
            context=context(self.facts.id, kind, file),
        )  # fmt: skip
        return file

    def _compact(self, kind: str, before: Index, index: Index) -> None:
        """Seal packs that lost a name anew, without it, so that nothing that was deleted stays readable."""
        before_residents, after_residents = before.residents(), index.residents()
        for file, names in after_residents.items():
            if file in before_residents and names and len(names) < len(before_residents[file]):
                self.reseal(kind, index, file, names)
        used = {place.object for place in index.names.values()}
        index.objects = {file: size for file, size in index.objects.items() if file in used}

    def reseal(self, kind: str, index: Index, file: str, names: list[str]) -> None:
        """Move some names of an object to a new one with a new data key."""
        old = self.sealed(kind, file)
        places = [(name, index.names[name]) for name in names]
        whole = len(places) == 1 and places[0][1].length == old.size
        parts: Iterable[Data] = (
            old.stream() if whole else (old.range(at.start, at.length) for _, at in places)
        )
        new, start = self.seal_object(kind, index, parts), 0
        for name, place in places:
            index.names[name] = Extent(new, start, place.length)
            start += place.length
        index.objects.pop(file)

    def _sweep(self, kind: str) -> None:
        """Shred all files that the index doesn't name: replaced objects, and those of a killed process."""
        try:
            named = read_index(self.folder, self.facts, kind, self.key).objects
        except EnvelopeError:
            return
        for path in (self.folder / kind).iterdir():
            if path.name not in named and path.name != INDEX_FILE and not path.name.endswith(".head"):
                shred(path)

    def _forget(self, kind: str) -> None:
        self._indexes.pop(kind, None)
        self.close()


def shred(path: Path) -> None:
    """Zero the header, which holds the wrapped keys, and delete the file."""
    handle = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(handle, bytes(min(4096, os.fstat(handle).st_size)), 0)
        os.fsync(handle)
    finally:
        os.close(handle)
    path.unlink()


def _put(index: Index, name: str, place: Extent) -> None:
    if not name or len(name) > 1024:
        raise InputError("an object's name must have 1 to 1024 letters")
    index.names[name] = place


def _packed(source: Iterator[tuple[str, bytes]], places: list[tuple[str, int, int]]) -> Iterator[bytes]:
    at = 0
    for name, data in source:
        places.append((name, at, len(data)))
        at += len(data)
        yield data
        if at >= PACK_BYTES:
            return


def _nothing(kind: str) -> InputError:
    return InputError(f"there is no such object among the {kind}", next_step="list them with hansa vault ls")
