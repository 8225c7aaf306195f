"""A round in the log of rounds, as a sentence for a person."""

from __future__ import annotations

from typing import Any


def sentence_of(line: dict[str, Any]) -> str:
    """One round of the log, for a person."""
    left_out = ", ".join(f"{entry['site']} ({entry['reason']})" for entry in line["quarantined"])
    without = f", without {left_out}" if left_out else ""
    return f"Round {line['round']}: {len(line['sites'])} sites, {line['seconds']:.1f} s{without}."
