"""Values of a run's files, whatever their shape: a finite number, a mapping, an interval, or nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def number(value: object) -> float | None:
    """A finite number, or None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def table(value: object) -> Mapping[str, Any]:
    """A mapping, or an empty one for anything else."""
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> list[Mapping[str, Any]]:
    """The mappings of a list; an empty list for anything else."""
    return [row for row in value if isinstance(row, Mapping)] if isinstance(value, list) else []


def interval(value: object) -> tuple[float, float] | None:
    """``[low, high]`` or ``{"low", "high"}`` as a pair, or None."""
    if isinstance(value, Mapping):
        value = [value.get("low"), value.get("high")]
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return None
    low, high = number(value[0]), number(value[1])
    return (low, high) if low is not None and high is not None else None
