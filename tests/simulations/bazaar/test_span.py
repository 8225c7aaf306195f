"""The default's merchants are as sparse as real stores, without a look at the real files."""

from __future__ import annotations

import polars as pl
import pytest

from simulations.bazaar import BazaarConfig
from simulations.bazaar.behaviour import shop
from simulations.bazaar.world import draw_site
from simulations.benchmarks.bazaar_span import describe

# The spans over H&M's departments and Complete Journey's stores, as `hansa bench bazaar` prints them.
REAL = {
    "density": (0.0003894, 0.02956),
    "history_mean": (1.394, 352.9),
    "gini": (0.2549, 0.7482),
    "top_1_percent": (0.03654, 0.1924),
}


@pytest.mark.parametrize("number", [0, 3, 8])
def test_purchases_lie_within_the_real_span(number: int) -> None:
    config = BazaarConfig(seed=1)
    truth = draw_site(config, number)
    log = shop(config, truth, [("thing", "word")] * len(truth.items))
    events = pl.DataFrame({"user": log.user, "item": log.item, "event": log.event})
    found = describe("x", events.filter(pl.col("event") == "purchase"))
    for name, (low, high) in REAL.items():
        assert low <= found[name] <= high, (name, found[name])
