"""The ledger's own time, which never goes back and, while the machine runs, is never faster than real time.

A budget is renewed with time, so nobody must be able to renew it by setting the clock. An entry's time therefore
depends on the entry before it: if the clock was set back, time stands still; if it was set forward, only the machine's
uptime counts. After a restart the clock is trusted.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path


@dataclass(frozen=True)
class Reading:
    """A reading of the machine's clocks: wall time, an id of the machine's start, and the seconds since that start."""

    wall: datetime
    boot: str
    since_boot_s: float


Clock = Callable[[], Reading]


def system_clock() -> Reading:
    """The clocks of this machine."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return Reading(datetime.now(UTC), boot, time.clock_gettime(time.CLOCK_BOOTTIME))


def ledger_time(last: Reading | None, now: Reading) -> datetime:
    """The time of the next entry; `last` holds the time and the uptime that the last entry states.

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
