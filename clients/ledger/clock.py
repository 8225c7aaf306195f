"""The ledger's own time, which never goes back and, while the machine runs, never faster than real time.

A budget that is renewed by the calendar must not be renewed by whoever sets the clock. So an entry's time follows from
the entry before it: a clock that was set back stands still, and one that was set forward counts only what the machine's
uptime confirms. Across a restart the clock is believed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class Reading:
    """A look at the machine's clocks: wall time, an id of this start of the machine, seconds since then."""

    wall: datetime
    boot: str
    since_boot_s: float


Clock = Callable[[], Reading]


def system_clock() -> Reading:
    """The clocks of this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Reading(datetime.now(UTC), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def ledger_time(last: Reading | None, now: Reading) -> datetime:
    """The time to state in the next entry; `last` holds the time that the last one states, and its uptime.

    >>> noon = datetime(2030, 1, 1, 12, tzinfo=UTC)
    >>> str(ledger_time(Reading(noon, "a", 10.0), Reading(noon.replace(hour=20), "a", 70.0)).time())
    '12:01:00'
    """
    if last is None:
        return now.wall
    passed = now.wall - last.wall
    if now.boot == last.boot:
        passed = min(passed, timedelta(seconds=now.since_boot_s - last.since_boot_s))
    return last.wall + max(passed, timedelta(0))
