"""What the rooms say of themselves is so, and nobody loads what it doesn't need."""

from __future__ import annotations

import subprocess
import sys

import pytest

from common.files import PROJECT

HEAVY = ("torch", "opacus", "matplotlib", "ray")


@pytest.mark.parametrize(
    "module",
    ["server.app", "clients.app", "server.superlink.supervisor", "clients.supernode.node", "simulations.cli"],
)
def test_who_does_not_train_starts_without_the_heavy_libraries(module: str) -> None:
    """Each process of a league would else take half a gigabyte and some seconds more."""
    program = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, capture_output=True, text=True)
    assert ended.stdout.strip() == "[]", ended.stderr
