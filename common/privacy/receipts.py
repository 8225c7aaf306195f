"""What the coordinator keeps of each site's privacy ledger, signed: number and hash of the last entry it was told.

A site that restores its ledger from an old backup would forget what it has spent since, and spend it again. The receipt
in the coordinator's next message shows that entries are missing. Invariant: a head reveals nothing about ε: the hash is
over a signed entry, so the entry can't be guessed from it.

The signature covers the bytes ``b"hansa ledger receipt 1\\n"`` followed by the canonical JSON of the receipt without
`signature`.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.canonical import canonical
from common.errors import PrivacyError, WireError

_DOMAIN = b"hansa ledger receipt 1\n"
_MOST_ENTRIES = 1 << 40


@dataclass(frozen=True)
class LedgerHead:
    """The newest entry of a ledger: the ledger's id (32 hex digits), the entry's number and hash (64)."""

    ledger: str
    n: int
    hash: str

    def __post_init__(self) -> None:
        good = (
            isinstance(self.ledger, str) and re.fullmatch("[0-9a-f]{32}", self.ledger)
            and type(self.n) is int and 0 <= self.n < _MOST_ENTRIES
            and isinstance(self.hash, str) and re.fullmatch("[0-9a-f]{64}", self.hash)
        )  # fmt: skip
        if not good:
            raise WireError("the head of a privacy ledger has another form", where="ledger")

    def to_json(self) -> str:
        """Canonical JSON."""
        return canonical(asdict(self)).decode()

    @classmethod
    def from_json(cls, text: str) -> LedgerHead:
        """The inverse of `to_json`.

        Raises
        ------
        WireError : the text has another form.
        """
        try:
            return cls(**json.loads(text))
        except (ValueError, TypeError):
            raise WireError("the head of a privacy ledger can't be read", where="ledger") from None


def sign_receipt(site: str, head: LedgerHead, key: Ed25519PrivateKey) -> str:
    """The signed receipt of a site's head, as text for a message."""
    body = {"site": site, "by": key.public_key().public_bytes_raw().hex(), **asdict(head)}
    return canonical({**body, "signature": key.sign(_DOMAIN + canonical(body)).hex()}).decode()


def read_receipt(text: str, site: str) -> tuple[LedgerHead, str]:
    """The head that a receipt states for a site, and the public key (hex) that signed it.

    Raises
    ------
    PrivacyError : it is for another site, or its signature is wrong.
    """
    try:
        body = json.loads(text)
        signature, by = bytes.fromhex(body.pop("signature")), str(body["by"])
        Ed25519PublicKey.from_public_bytes(bytes.fromhex(by)).verify(signature, _DOMAIN + canonical(body))
        if body["site"] != site:
            raise ValueError
        return LedgerHead(body["ledger"], body["n"], body["hash"]), by
    except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError, WireError):
        raise PrivacyError(
            "the coordinator's receipt of the privacy ledger is wrong", where=f"site '{site}'",
            why="it isn't for this site, or was edited", next_step="tell the coordinator; nothing was spent",
        ) from None  # fmt: skip
