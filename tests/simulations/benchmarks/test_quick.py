"""Benchmarks in their short form still run, and give rows and ratios; the others have tests of their own."""

from __future__ import annotations

import math

import pytest

from simulations.benchmarks import run

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "name", ["memory", "rounds", "protections", "vault", "budget", "deployment", "joining"]
)
def test_a_benchmark_gives_rows_and_ratios(name: str) -> None:
    result = run(name, quick=True)
    assert result["name"] == name
    assert result["rows"]
    assert all(math.isfinite(ratio) for ratio in result["ratios"].values())
