"""Erase one person from all objects of the kinds that have an eraser, with a signed receipt.

Invariants: an object is rewritten whole or not at all, and its old content is crypto-shredded. Erasing twice changes
nothing. The receipt holds no pseudonym, only SHA-256 over the vault's id and the pseudonym: whoever knows the pseudonym
can find the receipt, and nobody else learns it. The receipt also says what can't be promised.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType

import polars as pl
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from clients.vault.index import Extent
from clients.vault.store import Vault
from common.canonical import canonical
from common.errors import InputError
from common.files import read_json, write_json

Eraser = Callable[[str, bytes, str], tuple[bytes | None, int]]
"""(object name, content, pseudonym) → (new content or None to delete it, rows removed; 0 leaves the object)."""
ERASED = "erased/"
_DOMAIN = b"hansa erasure 1\n"
REMAINS = (
    "A model that was trained before this erasure may still carry a trace of this person. Where it was trained with "
    "differential privacy, its epsilon bounds how much; otherwise nothing does. Training anew without the person is "
    "the only way to remove it.",
    "Copies that were exported from the vault, and backups of its files together with a role's key, are out of reach.",
    "Statistics that were released before this erasure stay as they are.",
)


@dataclass(frozen=True)
class Erasure:
    """A receipt: what was removed and when, its entry in the log, and what remains."""

    vault: str
    subject: str
    at: str
    rows: dict[str, int]
    objects_rewritten: dict[str, int]
    objects_deleted: dict[str, int]
    log_entry: int
    log_hash: str
    remains: tuple[str, ...]


def rows_eraser(column: str = "user_id") -> Eraser:
    """An eraser for Parquet tables that drops the rows of one person; other content is left alone."""

    def erase(name: str, content: bytes, pseudonym: str) -> tuple[bytes | None, int]:
        if content[:4] != b"PAR1":
            return content, 0
        table = pl.read_parquet(io.BytesIO(content))
        if column not in table.columns:
            return content, 0
        others = table.filter((pl.col(column) != pseudonym) | pl.col(column).is_null())
        if others.height == table.height:
            return content, 0
        buffer = io.BytesIO()
        others.write_parquet(buffer)
        return buffer.getvalue(), table.height - others.height

    return erase


def drop_shards(name: str, content: bytes, pseudonym: str) -> tuple[bytes | None, int]:
    """An eraser for cached features: they don't say whose text they encode, so all are deleted and made anew."""
    return (None, 1) if name.endswith(".safetensors") else rows_eraser()(name, content, pseudonym)


DEFAULT_ERASERS: Mapping[str, Eraser] = MappingProxyType({
    **{kind: rows_eraser() for kind in ("reviews", "events", "logs")}, "features": drop_shards,
})  # fmt: skip


def erase_user(vault: Vault, pseudonym: str, erasers: Mapping[str, Eraser] = DEFAULT_ERASERS) -> Path:
    """Remove one person from the vault; returns the signed receipt's file.

    Parameters
    ----------
    erasers : kind → the function that removes a person from one object of the kind.

    Raises
    ------
    EnvelopeError : the role may not write one of the kinds; earlier kinds are done, and running again is safe.
    """
    subject = hashlib.sha256(f"{vault.facts.id}\0{pseudonym}".encode()).hexdigest()
    vault.log.append("erase", {"subject": subject, "kinds": sorted(erasers)})
    rows: dict[str, int] = {}
    rewritten: dict[str, int] = {}
    deleted: dict[str, int] = {}
    for kind, eraser in sorted(erasers.items()):
        if (vault.folder / kind).exists():
            rows[kind], rewritten[kind], deleted[kind] = _erase_kind(vault, kind, pseudonym, eraser)
    # Ingest reads these names, so that a raw folder that still holds the person doesn't bring the data back.
    vault.write("logs", ERASED + pseudonym, b"")
    entry = vault.log.append("erased", {"subject": subject, "rows": dict(rows)})
    receipt = Erasure(
        vault.facts.id, subject, datetime.now(UTC).isoformat(timespec="seconds"), rows, rewritten, deleted,
        entry.n, entry.hash, REMAINS,
    )  # fmt: skip
    body = asdict(receipt)
    path = vault.folder / "receipts" / f"{subject[:16]}-{entry.n}.json"
    path.parent.mkdir(exist_ok=True, mode=0o700)
    write_json(path, body | {"signature": vault.key.signing.sign(_DOMAIN + canonical(body)).hex()})
    return path


def read_receipt(path: Path, signer: Ed25519PublicKey) -> Erasure:
    """Read and verify a receipt.

    Raises
    ------
    InputError : it was edited, or another key signed it.
    """
    data = read_json(path)
    try:
        signature = bytes.fromhex(data.pop("signature"))
        signer.verify(signature, _DOMAIN + canonical(data))
        return Erasure(**data | {"remains": tuple(data["remains"])})
    except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
        raise InputError("the receipt was edited, or another key signed it", where=str(path)) from None


def _erase_kind(vault: Vault, kind: str, pseudonym: str, eraser: Eraser) -> tuple[int, int, int]:
    rows = rewritten = deleted = 0
    with vault.changing(kind) as index:
        for name in sorted(index.names):
            content, removed = eraser(name, vault.read(kind, name), pseudonym)
            if not removed:
                continue
            rows += removed
            if content is None:
                deleted += 1
                del index.names[name]
            else:
                rewritten += 1
                index.names[name] = Extent(vault.seal_object(kind, index, content), 0, len(content))
    return rows, rewritten, deleted
