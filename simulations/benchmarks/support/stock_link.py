"""Our coordinator with Flower's unchanged SuperLink, for the benchmark's league of unchanged SuperNodes.

    python -m simulations.benchmarks.support.stock_link KIT

An unchanged SuperNode has no client certificate, so Hansa's door, which is also in our SuperLink, refuses it.
Invariant: only the SuperLink's program differs; no setting of the product opens the door.
"""

from __future__ import annotations

from server.superlink import supervisor
from server.superlink.processes import Coordinator


class StockLinkCoordinator(Coordinator):
    """The coordinator's processes, with `flower-superlink` among them."""

    def _link_program(self) -> list[str]:
        return ["flower-superlink"]


def main() -> int:
    """Keep it up until SIGTERM."""
    supervisor.Coordinator = StockLinkCoordinator  # type: ignore[attr-defined]
    return supervisor.main()


if __name__ == "__main__":
    raise SystemExit(main())
