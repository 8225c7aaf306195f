"""The site's half of the protection `plain`: the update is sent as it is.

Invariant: of an update, only what this module returns leaves the site. The coordinator's half is
`server.aggregation.plain`; both are chosen by the name in the league's settings. The other protections are the rest of
this room.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from common.errors import ConfigError
from common.protocol.wire import FloatVector, Payload
from common.settings.config import LeagueConfig


class Protect(Protocol):
    """Turns one round's update into the payload of a message."""

    name: str

    def protect(self, update: FloatVector, weight: float) -> Payload: ...


class PlainProtection:
    """The update in clear, for leagues that trust their coordinator."""

    name = "plain"

    def protect(self, update: FloatVector, weight: float) -> Payload:
        """The update as contiguous float32. The weight isn't used: the coordinator weighs by the contract."""
        return np.ascontiguousarray(update, dtype=np.float32)


def protect_for(config: LeagueConfig, requested: str) -> Protect:
    """The protection that the league agreed on.

    Raises
    ------
    ConfigError : the coordinator asks for another protection than the contract's; a site never lowers its protection.
    """
    agreed = config.rounds.protection
    if requested != agreed:
        raise ConfigError(
            "the coordinator asks for another protection than the contract's", where="protection"
        )
    return PlainProtection()
