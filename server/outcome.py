"""What came of asking a cohort."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Outcome:
    """Figures of the good sites, reasons for the others, bytes received, and whether the round counts.

    Parameters
    ----------
    undone : why the round was taken back; empty where it counts.
    groups_refused : group sums that failed the sites' checks, or served the sites worse.
    tried : whether the sites judged the sums before they were applied.
    named : sites that are out from the next round on, and why.
    """

    metrics: dict[str, dict[str, float]] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    bytes_up: int = 0
    bytes_down: int | None = None
    undone: str = ""
    groups_refused: int = 0
    tried: bool = False
    named: dict[str, str] = field(default_factory=dict)
