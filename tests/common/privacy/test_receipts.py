"""The coordinator's receipts: for one site, by one signer, and of one form."""

from __future__ import annotations

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.errors import PrivacyError, WireError
from common.privacy.receipts import LedgerHead, read_receipt, sign_receipt

HEAD = LedgerHead("a" * 32, 7, "b" * 64)


def test_a_receipt_gives_its_head_to_its_site_alone() -> None:
    key = Ed25519PrivateKey.generate()
    receipt = sign_receipt("amber", HEAD, key)
    assert read_receipt(receipt, "amber") == (HEAD, key.public_key().public_bytes_raw().hex())
    with pytest.raises(PrivacyError, match="receipt"):
        read_receipt(receipt, "birch")


def test_every_changed_field_is_noticed() -> None:
    body = json.loads(sign_receipt("amber", HEAD, Ed25519PrivateKey.generate()))
    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw().hex()
    changes = {
        "n": 6,
        "hash": "c" * 64,
        "ledger": "d" * 32,
        "by": other,
        "signature": "00" * 64,
        "site": "birch",
    }
    for name, value in changes.items():
        with pytest.raises(PrivacyError):
            read_receipt(json.dumps({**body, name: value}), "amber")
    for text in ("", "[]", "{}", "null", json.dumps({k: v for k, v in body.items() if k != "signature"})):
        with pytest.raises(PrivacyError):
            read_receipt(text, "amber")


@pytest.mark.parametrize("head", [("a" * 31, 0, "b" * 64), ("a" * 32, -1, "b" * 64), ("a" * 32, True, "b" * 64),
                                  ("a" * 32, 0, "B" * 64), (1, 0, "b" * 64)])  # fmt: skip
def test_a_head_has_one_form(head: tuple[str, int, str]) -> None:
    with pytest.raises(WireError):
        LedgerHead(*head)
    with pytest.raises(WireError):
        LedgerHead.from_json(json.dumps({"ledger": head[0], "n": head[1], "hash": head[2]}))
    assert LedgerHead.from_json(HEAD.to_json()) == HEAD
