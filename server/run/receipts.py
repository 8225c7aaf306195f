"""Receipts: of each site's privacy ledger the newest head, signed, kept here and handed back with the next order.

A site whose ledger was restored from an old backup learns from it that entries are missing. Invariant: a head holds no
ε and no number of users; what is kept can't make a site spend more, only refuse.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from flwr.app import RecordDict

from common.errors import RunError, WireError
from common.files import read_json, write_json, write_whole
from common.privacy.receipts import LedgerHead, sign_receipt
from common.protocol import wire

KEY, _HEADS = "receipts.key", "receipts.json"


class Receipts:
    """The receipts of one coordinator.

    Parameters
    ----------
    folder : where they are kept, with the key that signs them (across machines the one whose public half the contract
        names); runs that share it share what they know of a site.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / _HEADS
        saved = read_json(path) if path.exists() else {}
        try:
            self._heads = {str(site): LedgerHead(**head) for site, head in saved.items()}
        except (TypeError, AttributeError, WireError):
            raise RunError("the kept receipts are damaged", where=str(path)) from None

    @property
    def heads(self) -> dict[str, LedgerHead]:
        """The newest head of each site."""
        return dict(self._heads)

    def of(self, site: str) -> str:
        """The receipt to hand to a site; empty where it never told of a ledger."""
        head = self._heads.get(site)
        return "" if head is None else sign_receipt(site, head, self._key())

    def note(self, heads: dict[str, LedgerHead]) -> None:
        """Keep what the sites of a round told."""
        if heads:
            self._heads |= heads
            write_json(self._folder / _HEADS, {site: asdict(head) for site, head in self._heads.items()})

    def _key(self) -> Ed25519PrivateKey:
        path = self._folder / KEY
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(path, Ed25519PrivateKey.generate().private_bytes_raw().hex().encode())
            path.chmod(0o600)
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text(encoding="ascii")))


def with_receipt(order: RecordDict, receipt: str) -> RecordDict:
    """An order that brings one site its receipt; the model in it is shared with the other sites' orders."""
    if not receipt:
        return order
    header = wire.read_header(order, where="order")
    return wire.addressed(order, replace(header, plan=header.plan | {"receipt": receipt}))


def ledger_head(header: wire.Header) -> LedgerHead | None:
    """The head that a site's reply tells of its ledger, where it tells one.

    Raises
    ------
    WireError : it has another form.
    """
    head = header.plan.get("ledger")
    return None if head is None else LedgerHead.from_json(str(head))
