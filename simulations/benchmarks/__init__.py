"""Benchmarks by name. Each is a module with ``run(quick: bool) -> {"name", "rows", "ratios"}``.

A long one may also have ``parts(only, seeds, file, tell)``, which runs some rows at a time and keeps finished cells in
a file.

Seconds depend on the machine; ratios hold on other machines too, so promises are made in ratios.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, TypedDict, cast

from common.errors import ConfigError
from common.schema import did_you_mean


class BenchResult(TypedDict):
    """The result of a benchmark: a row per measured setting, and the ratios in which promises are made."""

    name: str
    rows: list[dict[str, Any]]
    ratios: dict[str, float]


BENCHMARKS = MappingProxyType({
    "rounds": "rounds",
    "recommender": "recommender",
    "joining": "joining",
    "behaviour": "behaviour",
    "behaviour_league": "behaviour_league",
    "bazaar": "bazaar_span",
    "memory": "coordinator_memory",
    "protections": "protections",
    "malicious": "malicious",
    "privacy": "privacy",
    "budget": "budget",
    "vault": "vault",
    "ingest": "ingest",
    "deployment": "deployment",
    "scale": "scale",
})  # fmt: skip
"""Name on the command line → module in this room."""


def names() -> tuple[str, ...]:
    """The benchmarks that this version holds."""
    return tuple(name for name, module in BENCHMARKS.items() if find_spec(f"{__name__}.{module}") is not None)


def run(name: str, quick: bool) -> BenchResult:
    """Run one benchmark; `quick` takes a smaller setting that shows the same.

    Raises
    ------
    ConfigError : there is no benchmark of that name; the nearest one is named.
    """
    return cast(BenchResult, _module(name).run(quick))


def run_parts(
    name: str, only: str, seeds: Sequence[int] | None, file: Path | None, tell: Callable[[str], None]
) -> BenchResult:
    """Run some of a benchmark's cells, or combine finished ones.

    Parameters
    ----------
    only : words; rows whose name has one of them are run. Empty: all rows.
    seeds : None for the benchmark's own.
    file : where finished cells are kept.

    Raises
    ------
    ConfigError : as `run`; or the benchmark has no parts.
    """
    module = _module(name)
    if not hasattr(module, "parts"):
        parted = [benchmark for benchmark in names() if hasattr(_module(benchmark), "parts")]
        raise ConfigError(
            f"the benchmark '{name}' has no parts", where="bench",
            next_step=f"leave out --only, --seeds and --cells; they are for {', '.join(parted)}",
        )  # fmt: skip
    return cast(BenchResult, module.parts(only, module.SEEDS if seeds is None else seeds, file, tell))


def _module(name: str) -> ModuleType:
    if name not in names():
        raise ConfigError(f"unknown benchmark '{name}'", where="bench", next_step=did_you_mean(name, names()))
    return import_module(f"{__name__}.{BENCHMARKS[name]}")
