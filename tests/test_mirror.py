"""Every module with logic has a test file at its mirrored place, or stands in a table with the tests that cover it."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

from common.files import PROJECT

ROOMS = ("common", "clients", "server", "simulations")
TABLE = PROJECT / "tests" / "covered_by.toml"


def _modules() -> Iterator[Path]:
    """Modules, from the project's folder, that hold a function."""
    for room in ROOMS:
        for path in sorted((PROJECT / room).rglob("*.py")):
            tree = ast.parse(path.read_text(encoding="utf-8"))
            if any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) for node in ast.walk(tree)):
                yield path.relative_to(PROJECT)


def _own_test(module: Path) -> Path:
    name = module.parent.name if module.name == "__init__.py" else module.stem
    return PROJECT / "tests" / module.parent / f"test_{name}.py"


def test_every_module_has_its_own_test_or_stands_in_the_table() -> None:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    modules = {path.as_posix(): _own_test(path).exists() for path in _modules()}
    lacking = sorted(module for module, tested in modules.items() if not tested and module not in table)
    assert not lacking, f"write a test at the mirrored place, or name the tests in {TABLE.name}"
    needless = sorted(module for module in table if modules.get(module, True))
    assert not needless, "these have a test of their own, or are gone"


def test_the_table_names_tests_that_are_there() -> None:
    table = tomllib.loads(TABLE.read_text(encoding="utf-8"))
    missing = {test for tests in table.values() for test in tests if not (PROJECT / "tests" / test).exists()}
    assert not missing
    assert all(table.values()), "each module is covered by at least one test"
