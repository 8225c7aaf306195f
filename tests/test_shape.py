"""The shape of the house: rooms of few modules, functions of few parameters.

What typer calls is left out: a command's parameters are the command line's own options.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from common.files import PROJECT

ROOMS = ("common", "clients", "server", "simulations")
MOST_MODULES, MOST_PARAMETERS, MOST_IN_SERVER = 15, 6, 5
Function = ast.FunctionDef | ast.AsyncFunctionDef


def _modules() -> list[Path]:
    return sorted(path for room in ROOMS for path in (PROJECT / room).rglob("*.py"))


def _functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


def _parameters(function: Function) -> list[ast.arg]:
    arguments = function.args
    return [
        argument
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)
        if argument.arg not in ("self", "cls")
    ]


def _is_command(path: Path, function: Function) -> bool:
    """Whether typer calls it: it stands in a room of commands, and an option of the command line is among its own."""
    if "commands" not in path.parts:
        return False
    types = [ast.unparse(argument.annotation) for argument in _parameters(function) if argument.annotation]
    return any("typer." in text or text.endswith("Option") for text in types)


def crowded(folders: dict[Path, int]) -> list[str]:
    """Folders with more modules than a reader takes in."""
    return [f"{folder}: {count} modules" for folder, count in folders.items() if count > MOST_MODULES]


def laden(path: Path, text: str) -> list[str]:
    """Functions of a module with more parameters than go together by themselves."""
    most = MOST_IN_SERVER if path.parts[0] == "server" else MOST_PARAMETERS
    return [
        f"{path}:{function.lineno} {function.name}: {len(_parameters(function))} parameters"
        for function in _functions(ast.parse(text))
        if len(_parameters(function)) > most and not _is_command(path, function)
    ]


def test_no_folder_holds_more_modules_than_a_reader_takes_in() -> None:
    folders: dict[Path, int] = {}
    for path in _modules():
        if path.name != "__init__.py":
            folder = path.parent.relative_to(PROJECT)
            folders[folder] = folders.get(folder, 0) + 1
    assert crowded(folders) == []


def test_no_function_takes_more_than_six_parameters_and_in_server_five() -> None:
    lines = [
        line
        for path in _modules()
        for line in laden(path.relative_to(PROJECT), path.read_text(encoding="utf-8"))
    ]
    assert lines == []


@pytest.mark.parametrize(
    ("path", "text", "many"),
    [
        ("clients/a.py", "def f(a, b, c, d, e, f): ...", False),
        ("server/a.py", "def f(a, b, c, d, e, f): ...", True),
        ("clients/a.py", "def f(a, b, c, /, d, e, *, f, g): ...", True),
        ("clients/a.py", "class A:\n    async def f(self, a, b, c, d, e, f): ...", False),
        ("clients/a.py", "class A:\n    def f(self, a, b, c, d, e, f, g): ...", True),
        ("simulations/commands/a.py", "def f(a: typer.Context, b, c, d, e, f, g): ...", False),
        ("simulations/commands/a.py", "def f(a, b, c, d, e, f, g): ...", True),
        ("clients/a.py", "def f(a: typer.Context, b, c, d, e, f, g): ...", True),
    ],
)
def test_what_counts_as_too_many(path: str, text: str, many: bool) -> None:
    assert bool(laden(Path(path), text)) is many
    assert crowded({Path("room"): MOST_MODULES + many}) == (["room: 16 modules"] if many else [])
