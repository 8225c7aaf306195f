"""Which sites left a run because their own privacy budget was spent, read from the coordinator's log of rounds.

Invariant: a site tells the coordinator that its budget is spent, but not how large it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

_REFUSED = "PrivacyError: "
_SPENT = "privacy budget is spent"


def stopped_sites(rounds: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """Site → the first round for which its budget was too small.

    >>> reason = "the site reported an error: PrivacyError: the site's privacy budget is spent"
    >>> stopped_sites([{"round": 3, "quarantined": [{"site": "amber", "reason": reason}]}])
    {'amber': 3}
    """
    stopped: dict[str, int] = {}
    for line in rounds:
        for entry in line.get("quarantined") or ():
            reason = str(entry.get("reason", "")) if isinstance(entry, Mapping) else ""
            if _REFUSED in reason and _SPENT in reason:
                stopped.setdefault(str(entry.get("site")), int(line["round"]))
    return stopped
