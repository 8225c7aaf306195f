"""Draws some merchants of a league: the second process of `write_league`.

`python -m simulations.bazaar.second OUT CONFIG NUMBER ...`, the league's settings as JSON.
"""

from __future__ import annotations

import sys
from pathlib import Path

from simulations.bazaar.config import BazaarConfig
from simulations.bazaar.league import merchants, write_sites


def main(arguments: list[str]) -> None:
    """Write the folders of the merchants whose numbers are given."""
    out, settings, *numbers = arguments
    config = BazaarConfig.model_validate_json(settings)
    league = merchants(config)
    write_sites(Path(out), config, [league[int(number)] for number in numbers])


if __name__ == "__main__":
    main(sys.argv[1:])
