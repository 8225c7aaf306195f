"""Connectors: sources of site folders, chosen by name."""

from __future__ import annotations

from common.errors import ConfigError
from common.schema import did_you_mean
from simulations.connectors.base import Connector, ConnectorOptions, Options, SiteRef, SiteTables
from simulations.connectors.completejourney import JourneyConnector
from simulations.connectors.folders import FoldersConnector
from simulations.connectors.hm import HmConnector
from simulations.connectors.ml100k import MovieLensConnector

CONNECTORS: tuple[Connector, ...] = (
    HmConnector(),
    JourneyConnector(),
    MovieLensConnector(),
    FoldersConnector(),
)


def connector(name: str, connectors: tuple[Connector, ...] = CONNECTORS) -> Connector:
    """The connector of that name.

    Raises
    ------
    ConfigError : there is none; the nearest name is suggested.
    """
    named = {entry.name: entry for entry in connectors}
    if name not in named:
        raise ConfigError(f"unknown data source '{name}'", where="data", next_step=did_you_mean(name, named))
    return named[name]


__all__ = ["CONNECTORS", "Connector", "ConnectorOptions", "Options", "SiteRef", "SiteTables", "connector"]
