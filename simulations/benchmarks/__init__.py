"""Benchmarks by name. Each is a module with ``run(quick: bool) -> {"name", "rows", "ratios"}``.

Seconds depend on the machine; ratios carry over, so promises are made in ratios.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any, TypedDict, cast

from common.errors import ConfigError
from common.schema import did_you_mean


class BenchResult(TypedDict):
    """What a benchmark gives back: a row per measured setting, and the ratios that promises are made in."""

    name: str
    rows: list[dict[str, Any]]
    ratios: dict[str, float]


BENCHMARKS = MappingProxyType({
    "rounds": "rounds",
    "recommender": "recommender",
    "behaviour": "behaviour",
    "bazaar": "bazaar_span",
    "memory": "coordinator_memory",
    "protections": "protections",
    "malicious": "malicious",
    "privacy": "privacy",
    "budget": "budget",
    "vault": "vault",
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
    if name not in names():
        raise ConfigError(f"unknown benchmark '{name}'", where="bench", next_step=did_you_mean(name, names()))
    return cast(BenchResult, import_module(f"{__name__}.{BENCHMARKS[name]}").run(quick))
