"""What the log of rounds says of a round, as a sentence for a person."""

from __future__ import annotations

from typing import Any


def sentence_of(line: dict[str, Any]) -> str:
    """One round of the log, for a person."""
    gone = ", ".join(f"{each['site']} ({each['reason']})" for each in line["quarantined"])
    without = f", without {gone}" if gone else ""
    return f"Round {line['round']}: {len(line['sites'])} sites, {line['seconds']:.1f} s{without}."
