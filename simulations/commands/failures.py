"""How commands fail: what, where, why and the next step; an exit code; never a traceback.

Exit codes: 0 well · 2–9 the kinds of `common.errors` (2 also for wrong usage) · 70 a bug in Hansa · 130 interrupted.
``HANSA_DEBUG=1`` shows the traceback of a bug; otherwise it goes to a log file that is named.
"""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from pathlib import Path

import click

from common.errors import HansaError
from simulations.output import plain

BUG = 70
INTERRUPTED = 130
USAGE = 2


def explain(fault: BaseException) -> dict[str, str | int]:
    """The failure as one JSON-able record, which `tell` prints for people."""
    if isinstance(fault, HansaError):
        return fault.as_dict()
    if isinstance(fault, click.ClickException):
        context = getattr(fault, "ctx", None)
        help_for = f"{context.command_path} --help" if context else "hansa --help"
        return _record(
            "UsageError", fault.format_message() or "a command is missing", "", "", f"see {help_for}", USAGE
        )
    if isinstance(fault, (KeyboardInterrupt, click.Abort)):
        return _record("Interrupted", "stopped by you", "", "", "go on with hansa resume RUN", INTERRUPTED)
    log = write_log(fault)
    return _record(
        "Bug", "this is a bug in Hansa", f"{type(fault).__name__}", "", f"send {log} to the maintainers", BUG
    )


def tell(record: dict[str, str | int]) -> None:
    """Print a failure for a person."""
    lines = [f"Error: {record['what']}"]
    lines += [f"  {label}: {record[key]}" for key, label in _LABELS if record[key]]
    print(plain("\n".join(lines)), file=sys.stderr)


def write_log(fault: BaseException) -> Path:
    """Keep the traceback of a bug in a file of its own, readable by this user alone."""
    text = "".join(traceback.format_exception(fault))
    if os.environ.get("HANSA_DEBUG") == "1":
        print(text, file=sys.stderr)
    handle, name = tempfile.mkstemp(prefix="hansa-bug-", suffix=".log")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    return Path(name)


_LABELS = (("where", "where"), ("why", "why"), ("next_step", "next"))


def _record(kind: str, what: str, where: str, why: str, next_step: str, code: int) -> dict[str, str | int]:
    return {
        "error": kind,
        "what": what,
        "where": where,
        "why": why,
        "next_step": next_step,
        "exit_code": code,
    }
