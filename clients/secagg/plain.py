"""The site's half of a protection: an update becomes the one vector that travels.

Invariant: what this returns is all that leaves the site of an update. The coordinator's half is
`server.aggregation.plain`; both are chosen by the name in the league's settings. `plain` sends the update as it is; the
other protections are in `clients.secagg`.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from common.errors import ConfigError
from common.protocol.wire import FloatVector, Payload
from common.settings.config import LeagueConfig


class Protect(Protocol):
    """Turns one round's update into its payload."""

    name: str

    def protect(self, update: FloatVector, weight: float) -> Payload: ...


class Plain:
    """The update in clear, for leagues that trust their coordinator."""

    name = "plain"

    def protect(self, update: FloatVector, weight: float) -> Payload:
        """The update itself as contiguous float32; the weight isn't needed, the coordinator weighs by contract."""
        return np.ascontiguousarray(update, dtype=np.float32)


def protect_for(config: LeagueConfig, asked: str) -> Protect:
    """The protection that the league agreed on.

    Raises
    ------
    ConfigError : the coordinator asks for another one than the contract names; a site never lowers its protection.
    """
    agreed = config.rounds.protection
    if asked != agreed:
        raise ConfigError(
            "the coordinator asks for another protection than the contract's", where="protection"
        )
    return Plain()
