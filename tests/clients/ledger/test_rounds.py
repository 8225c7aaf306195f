"""Receipts across machines: only the signer that the contract names is heard, whoever comes first."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from clients.ledger.rounds import check_receipt
from common.errors import PrivacyError
from common.privacy.receipts import LedgerHead, sign_receipt
from common.provision.contract import FILE, Contract
from common.provision.pinned import Pinned
from common.settings.load import load_config
from tests.clients.ledger.helpers import in_folder, wish


def _pinned(folder: Path, signer: str) -> Pinned:
    Contract(load_config({}), "c0de", (), receipts=signer).write(folder / FILE)
    return Pinned.of(folder / FILE, folder / "keys.json")


def test_only_the_contracts_signer_is_heard_first_or_later(tmp_path: Path) -> None:
    own, stranger = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    ledger, private = in_folder(tmp_path), tmp_path / "private"
    ledger.debit(wish(1))
    pinned = _pinned(tmp_path, own.public_key().public_bytes_raw().hex())
    for key in (stranger, own, stranger):  # a stranger who comes first is nobody's coordinator
        receipt = sign_receipt("amber", ledger.head(), key)
        if key is own:
            check_receipt(ledger, receipt, private, "amber", pinned)
            continue
        with pytest.raises(PrivacyError, match="isn't signed by the key that the contract names"):
            check_receipt(ledger, receipt, private, "amber", pinned)
    assert not private.exists()  # nothing is learned from whoever sends
    ahead = sign_receipt("amber", LedgerHead(ledger.head().ledger, 7, "0" * 64), own)
    with pytest.raises(PrivacyError, match="older than what the coordinator has seen"):
        check_receipt(ledger, ahead, private, "amber", pinned)


def test_a_contract_that_names_no_signer_lets_nobody_sign(tmp_path: Path) -> None:
    ledger = in_folder(tmp_path)
    ledger.debit(wish(1))
    receipt = sign_receipt("amber", ledger.head(), Ed25519PrivateKey.generate())
    with pytest.raises(PrivacyError, match="the contract names"):
        check_receipt(ledger, receipt, tmp_path, "amber", _pinned(tmp_path, ""))


def test_in_a_simulation_the_first_of_a_run_is_held_to(tmp_path: Path) -> None:
    first, second = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()
    ledger = in_folder(tmp_path)
    ledger.debit(wish(1))
    check_receipt(ledger, sign_receipt("amber", ledger.head(), first), tmp_path, "amber")
    with pytest.raises(PrivacyError, match="another signer"):
        check_receipt(ledger, sign_receipt("amber", ledger.head(), second), tmp_path, "amber")
