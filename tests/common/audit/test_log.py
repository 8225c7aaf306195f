"""The log can't be edited, reordered or cut unnoticed, and survives a crash amid a line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.audit import AuditError, AuditLog, verify

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key()


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    made = AuditLog.open(tmp_path / "audit.jsonl", KEY)
    for number in range(5):
        made.append("open", {"number": number, "text": "中文 " * 20_000 if number == 3 else "x"})
    return made


def test_entries_come_back_in_order(log: AuditLog) -> None:
    assert [entry.facts["number"] for entry in verify(log.path, PUBLIC)] == [0, 1, 2, 3, 4]
    again = AuditLog.open(log.path, KEY)
    assert again.append("more", {}).n == 5
    assert log.append("from the first handle", {}).n == 6
    assert len(verify(log.path, PUBLIC, log.receipt())) == 7


def edit_fact(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"number":1', b'"number":7'), *lines[2:]]


def spaces(lines: list[bytes]) -> list[bytes]:
    return [json.dumps(json.loads(lines[0])).encode(), *lines[1:]]


EDITS: list[Callable[[list[bytes]], list[bytes]]] = [
    edit_fact,
    spaces,
    lambda lines: lines[1:],
    lambda lines: [lines[0], *lines[2:]],
    lambda lines: [lines[1], lines[0], *lines[2:]],
    lambda lines: [*lines, lines[-1]],
    lambda lines: [*lines, b"[]"],
    lambda lines: [*lines, b"\xff"],
]


@pytest.mark.parametrize("edit", EDITS)
def test_any_edit_is_found(log: AuditLog, edit: Callable[[list[bytes]], list[bytes]]) -> None:
    lines = edit(log.path.read_bytes().split(b"\n")[:-1])
    log.path.write_bytes(b"".join(line + b"\n" for line in lines))
    with pytest.raises(AuditError):
        verify(log.path, PUBLIC)


def test_a_foreign_signer_is_found(log: AuditLog) -> None:
    AuditLog.open(log.path, Ed25519PrivateKey.generate()).append("forged", {})
    with pytest.raises(AuditError):
        verify(log.path, PUBLIC)


def test_a_cut_at_a_line_shows_against_a_receipt(log: AuditLog) -> None:
    receipt = log.receipt()
    log.path.write_bytes(b"".join(line + b"\n" for line in log.path.read_bytes().split(b"\n")[:3]))
    assert len(verify(log.path, PUBLIC)) == 3
    with pytest.raises(AuditError, match="lacks entries"):
        verify(log.path, PUBLIC, receipt)


@pytest.mark.parametrize("size", [1, 40, 200])
def test_a_torn_last_line_is_moved_aside(log: AuditLog, size: int) -> None:
    whole = log.path.read_bytes()
    last = whole.split(b"\n")[-2]
    log.path.write_bytes(whole + last[:size])
    assert AuditLog.open(log.path, KEY).append("after", {}).n == 5
    assert len(verify(log.path, PUBLIC)) == 6
    assert log.path.with_name("audit.jsonl.torn").read_bytes() == last[:size] + b"\n"


def test_what_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").mkdir()
    with pytest.raises(AuditError):
        AuditLog.open(tmp_path / "audit.jsonl", KEY)
