"""Logs: a JSON document a line off a terminal, sentences on one, and of an exception no word of its message."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from common.errors import InputError
from common.runtime import logs

CANARY = "canary-4711"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _own_root() -> Iterator[None]:
    root = logging.getLogger()
    kept, level = list(root.handlers), root.level
    yield
    root.handlers[:], root.level = kept, level


def _fail(secret: str) -> None:
    raise ValueError(f"row 7 holds {secret}")


def _log(stream: io.StringIO) -> str:
    logs.configure("birch", stream)
    log = logging.getLogger("hansa.test")
    log.info("round %d took %.1f s", 3, 2.5)
    try:
        _fail(CANARY)
    except ValueError as fault:
        log.error("train failed", exc_info=fault)
    logging.getLogger("httpx").info("GET https://coordinator/secret")
    return stream.getvalue()


def test_off_a_terminal_every_line_is_one_document_without_the_exceptions_message() -> None:
    text = _log(io.StringIO())
    first, second = (json.loads(line) for line in text.splitlines())
    assert (first["party"], first["level"], first["message"]) == ("birch", "info", "round 3 took 2.5 s")
    assert first["at"].endswith("+00:00")
    assert (second["error"], second["message"]) == ("ValueError", "train failed")
    assert second["places"][-1].startswith("tests/common/runtime/test_logs.py:")
    assert second["places"][-1].endswith(" _fail")
    assert CANARY not in text


def test_on_a_terminal_there_are_sentences_and_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HANSA_DEBUG", raising=False)
    text = _log(Terminal())
    assert "INFO round 3 took 2.5 s" in text
    assert "ValueError at tests/common/runtime/test_logs.py:" in text
    assert CANARY not in text
    monkeypatch.setenv("HANSA_DEBUG", "1")
    assert CANARY in _log(Terminal())


def test_a_line_break_in_a_message_makes_no_second_document() -> None:
    stream = io.StringIO()
    logs.configure("birch", stream)
    logging.getLogger("x").warning("first\n{}")
    assert len(stream.getvalue().splitlines()) == 1


def test_an_error_of_hansas_own_keeps_its_kind() -> None:
    stream = io.StringIO()
    logs.configure("birch", stream)
    try:
        raise InputError(f"price is {CANARY}", where="products.csv")
    except InputError as fault:
        logging.getLogger("x").error("ingest failed", exc_info=fault)
    assert json.loads(stream.getvalue())["error"] == "InputError"
    assert CANARY not in stream.getvalue()
