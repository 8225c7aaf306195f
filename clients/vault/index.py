"""The sealed, signed index of one kind: which name is where in which object.

Invariants: names are stored in the index only. An index is accepted only with the signature of a role that may write
the kind. It holds each object's key check, so an object that someone else sealed under the same file name is refused.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature

from clients.vault.facts import VaultFacts
from common.canonical import canonical
from common.crypto.envelope import EnvelopeError, Written, open_sealed, seal
from common.crypto.keys import RoleKey, signer_id

INDEX_FILE = "index.hve"
_DOMAIN = b"hansa vault index 1\n"


@dataclass(frozen=True)
class Extent:
    """Bytes start … start + length of an object's plaintext."""

    object: str
    start: int
    length: int


@dataclass
class Index:
    """Names of one kind. `objects` maps an object's file name to its size and key check."""

    sequence: int = 0
    objects: dict[str, Written] = field(default_factory=dict)
    names: dict[str, Extent] = field(default_factory=dict)

    def residents(self) -> dict[str, list[str]]:
        """Object → the names stored in it, in the order of their bytes."""
        residents: dict[str, list[str]] = {name: [] for name in self.objects}
        for name, place in sorted(self.names.items(), key=lambda item: (item[1].object, item[1].start)):
            residents[place.object].append(name)
        return residents


def context(vault_id: str, kind: str, file: str) -> bytes:
    """The associated data that binds a file to its vault, kind and place."""
    return f"hansa vault 1\0{vault_id}\0{kind}\0{file}".encode()


def read_index(folder: Path, facts: VaultFacts, kind: str, key: RoleKey) -> Index:
    """Read and verify an index; it's empty if nothing of the kind was written yet.

    Raises
    ------
    EnvelopeError : it isn't for this key, is damaged, or was signed by a role that may not write.
    """
    path = folder / kind / INDEX_FILE
    if not path.exists():
        return Index()
    with open_sealed(path, key.encryption, context=context(facts.id, kind, INDEX_FILE)) as sealed:
        data = sealed.read()
    try:
        signature, body = data[:64], data[64:]
        document: dict[str, Any] = json.loads(body)
        facts.signers(kind)[document["by"]].verify(signature, _signed(facts, kind, body))
        names = {name: Extent(*place) for name, place in document["names"].items()}
        objects = {file: Written(*facts_of) for file, facts_of in document["objects"].items()}
        return Index(document["sequence"], objects, names)
    except (ValueError, KeyError, TypeError, InvalidSignature):
        raise EnvelopeError from None


def write_index(folder: Path, facts: VaultFacts, kind: str, key: RoleKey, index: Index) -> None:
    """Sign and seal an index in place of the old one."""
    names = {name: (at.object, at.start, at.length) for name, at in index.names.items()}
    document = {
        "by": signer_id(key.signing.public_key()),
        "sequence": index.sequence,
        "objects": {file: (written.size, written.check) for file, written in index.objects.items()},
        "names": names,
    }
    body = canonical(document, ascii_only=False)
    seal(
        folder / kind / INDEX_FILE,
        key.signing.sign(_signed(facts, kind, body)) + body,
        recipients=facts.recipients(kind),
        context=context(facts.id, kind, INDEX_FILE),
    )


def _signed(facts: VaultFacts, kind: str, body: bytes) -> bytes:
    return _DOMAIN + context(facts.id, kind, INDEX_FILE) + b"\n" + body
