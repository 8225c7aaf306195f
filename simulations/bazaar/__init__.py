"""The bazaar: a synthetic league of merchants, so that everything runs without anyone's data.

>>> from pathlib import Path
>>> folders = write_league(Path("league"), BazaarConfig(seed=1))  # doctest: +SKIP
"""

from simulations.bazaar.config import BazaarConfig, load_bazaar_config
from simulations.bazaar.write import write_league

__all__ = ["BazaarConfig", "load_bazaar_config", "write_league"]
