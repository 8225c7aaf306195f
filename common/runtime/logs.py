"""The logs of all processes: sentences on a terminal, one JSON document per line elsewhere.

Invariant: of an exception, a record holds only the kind and the places in the code. Its message and the values of
variables may quote a site's data or a secret. `HANSA_DEBUG=1` adds them, on a terminal only.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from common.files import PROJECT

_CHATTY = ("httpx", "httpcore", "urllib3", "alembic")


def configure(party: str, stream: TextIO | None = None) -> None:
    """Set up the logs of this process.

    Parameters
    ----------
    party : whose process it is, such as "coordinator" or a site's name.
    stream : the standard error by default.
    """
    stream = stream or sys.stderr
    handler = logging.StreamHandler(stream)
    handler.setLevel(logging.INFO)
    handler.setFormatter(_Sentences(party) if stream.isatty() else _Lines(party))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Flower's own handler prints in colours and with the messages of exceptions.
    logging.getLogger("flwr").handlers.clear()


def places_of(fault: BaseException) -> list[str]:
    """File, line and function of each step to an exception, innermost last, without any values."""
    steps = traceback.extract_tb(fault.__traceback__)
    return [f"{_short(step.filename)}:{step.lineno} {step.name}" for step in steps]


class _Lines(logging.Formatter):
    """Formats each record as one JSON document."""

    def __init__(self, party: str) -> None:
        super().__init__()
        self._party = party

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(), "party": self._party, "from": record.name,
            "message": record.getMessage(),
        }  # fmt: skip
        fault = record.exc_info[1] if record.exc_info else None
        if fault is not None:
            return json.dumps(
                {**fields, "error": type(fault).__name__, "places": places_of(fault)}, ensure_ascii=False
            )
        return json.dumps(fields, ensure_ascii=False)


class _Sentences(logging.Formatter):
    """Formats each record as a sentence for a person."""

    def __init__(self, party: str) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S")
        self._party = party

    def formatException(self, ei: object) -> str:
        fault = ei[1] if isinstance(ei, tuple) else None
        if not isinstance(fault, BaseException):
            return ""
        if os.environ.get("HANSA_DEBUG") == "1":
            return "".join(traceback.format_exception(fault))
        return f"  {type(fault).__name__} at " + " < ".join(reversed(places_of(fault)[-4:]))


def _short(name: str) -> str:
    path = Path(name)
    return path.relative_to(PROJECT).as_posix() if path.is_relative_to(PROJECT) else path.name
