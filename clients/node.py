"""Flower's SuperNode, which asks for work several times a second in place of once in three.

Invariant: this is Flower's own program with one thing changed, how long it sleeps; the change is made to names of
Flower 1.41 that aren't public, so they are looked up here alone and the deployment's tests fail when they go.
"""

from __future__ import annotations

import time
from types import SimpleNamespace

from flwr.supernode import start_client_internal as node
from flwr.supernode.cli.flower_supernode import flower_supernode

_LONGEST_PAUSE_S = 0.2


def _short_sleep(seconds: float) -> None:
    time.sleep(min(seconds, _LONGEST_PAUSE_S))


def main() -> None:
    """Run the SuperNode with the arguments of `flower-supernode`."""
    node.time = SimpleNamespace(sleep=_short_sleep)  # type: ignore[assignment, attr-defined]
    flower_supernode()


if __name__ == "__main__":
    main()
