"""Draws some merchants of a league: the second process of `write_league`."""

from __future__ import annotations

from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from simulations.bazaar.config import BazaarConfig
from simulations.bazaar.write import merchants, write_sites

DONE = b"done"


def draw(pipe: Connection, order: dict[str, Any]) -> None:
    """Write the folders of the merchants ``numbers`` of the league ``config`` under ``out``, and say so."""
    config = BazaarConfig.model_validate(order["config"])
    league = merchants(config)
    write_sites(Path(order["out"]), config, [league[number] for number in order["numbers"]])
    pipe.send_bytes(DONE)
