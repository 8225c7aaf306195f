"""What the coordinator keeps of sites' ledgers, and how it hands it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.errors import RunError, WireError
from common.privacy.receipts import LedgerHead, read_receipt
from common.protocol import wire
from server.run.receipts import Receipts, ledger_head, with_receipt

HEAD = LedgerHead("a" * 32, 7, "b" * 64)


def test_heads_outlive_the_process_and_keep_their_signer(tmp_path: Path) -> None:
    first = Receipts(tmp_path / "receipts")
    assert first.of("amber") == ""
    first.note({})
    assert not (tmp_path / "receipts").exists()
    first.note({"amber": HEAD})
    again = Receipts(tmp_path / "receipts")
    assert read_receipt(again.of("amber"), "amber") == read_receipt(first.of("amber"), "amber")
    assert again.of("birch") == ""
    assert (tmp_path / "receipts" / "receipts.key").stat().st_mode & 0o077 == 0
    (tmp_path / "receipts" / "receipts.json").write_text('{"amber": {"n": 7}}')
    with pytest.raises(RunError, match="damaged"):
        Receipts(tmp_path / "receipts")


def test_an_order_with_a_receipt_shares_the_model() -> None:
    order = wire.pack(wire.Header("run", 3, plan={"attempt": "x"}), vector=np.ones(4, np.float32))
    mine = with_receipt(order, "receipt")
    assert wire.read_header(mine, where="t").plan == {"attempt": "x", "receipt": "receipt"}
    assert mine.array_records[wire.VECTOR][wire.VECTOR] is order.array_records[wire.VECTOR][wire.VECTOR]
    assert wire.read_header(order, where="t").plan == {"attempt": "x"}
    assert with_receipt(order, "") is order


def test_a_reply_tells_a_head_of_one_form_or_none() -> None:
    assert ledger_head(wire.Header("run")) is None
    assert ledger_head(wire.Header("run", plan={"ledger": HEAD.to_json()})) == HEAD
    with pytest.raises(WireError):
        ledger_head(wire.Header("run", plan={"ledger": "[1, 2]"}))
