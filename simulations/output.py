"""How commands speak: results on the standard output, prose on the standard error, one JSON document for machines.

Invariant: with ``--format json`` the standard output holds exactly one JSON document, whatever libraries and child
processes print, because the real output is put aside until the command has ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from common.canonical import readable

_WIDTH_WITHOUT_TERMINAL = 120


class Format(StrEnum):
    """How the result is printed."""

    text = "text"
    json = "json"


FormatOption = Annotated[Format, typer.Option("--format", help="text for people, json for programs.")]


@dataclasses.dataclass
class Output:
    """Collects the one result of a command."""

    document: Any = None
    ready: bool = False

    def result(self, form: Format, document: Any, show: Callable[[Console], None]) -> None:
        """Give the command's result: kept as a JSON document, or shown at once."""
        if form is Format.json:
            self.document, self.ready = as_json(document), True
        else:
            show(console(sys.stdout.isatty()))


def output_of(context: typer.Context) -> Output:
    """The collector that `simulations.cli.main` hands to every command."""
    collector = context.find_object(Output)
    return collector if collector is not None else Output()


def console(terminal: bool, *, error: bool = False) -> Console:
    """A console that doesn't fold tables at 80 columns when its output goes to a file."""
    return Console(
        stderr=error, width=None if terminal else _WIDTH_WITHOUT_TERMINAL, highlight=False, soft_wrap=False
    )


def note(message: str) -> None:
    """Prose for the person at the keyboard, on the standard error."""
    print(plain(message), file=sys.stderr)


def plain(text: object) -> str:
    """Text without control characters: data from a shop must not steer the terminal."""
    return "".join(letter if letter.isprintable() or letter in "\n\t" else "\ufffd" for letter in str(text))


def figure(value: object, digits: int = 3) -> str:
    """A number as a person reads it; a dash where there is none."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "–"
    if isinstance(value, float):
        return f"{value:.{digits}f}"
    return plain(value)


def table(headings: Sequence[str], rows: Sequence[Sequence[object]], *, title: str = "") -> Table:
    """A table whose cells are taken literally; columns of numbers are set flush right."""
    grid = Table(title=title or None, title_justify="left", title_style="bold")
    for place, heading in enumerate(headings):
        numeric = bool(rows) and all(isinstance(row[place], (int, float, type(None))) for row in rows)
        grid.add_column(plain(heading), justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(figure(cell)) for cell in row))
    return grid


def as_json(value: Any) -> Any:
    """The same data in JSON's terms: paths as text, tuples as lists, no NaN (null instead)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {member.name: as_json(getattr(value, member.name)) for member in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [as_json(inner) for inner in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, (str, int, bool, type(None))) else str(value)


def wants_json(arguments: Sequence[str]) -> bool:
    """Whether ``--format json`` was asked for, known before (and even if) the arguments parse."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=False)
    return any(one == "--format=json" or (one == "--format" and two == "json") for one, two in pairs)


@contextlib.contextmanager
def only_document() -> Iterator[Callable[[Any], None]]:
    """Send what is printed, by children too, to the standard error; yields the way to the real standard output."""
    sys.stdout.flush()
    real_stdout = os.dup(1)
    os.dup2(2, 1)

    def write(document: Any) -> None:
        text = readable(as_json(document), allow_nan=False) + "\n"
        with os.fdopen(os.dup(real_stdout), "w", encoding="utf-8") as stream:
            stream.write(text)

    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield write
    finally:
        os.dup2(real_stdout, 1)
        os.close(real_stdout)
