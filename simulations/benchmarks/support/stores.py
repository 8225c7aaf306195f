"""Stores of Complete Journey as arrays, without encoding a text: for benchmarks that read logs alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from clients.data.arrays import prepare_site
from clients.data.dataset import SiteDataset
from clients.data.source import open_house
from clients.encoders import FeatureCache
from clients.encoders.cache import FolderShards, Half
from clients.encoders.frozen import IMAGE_DIM, IMAGE_ENCODER, TEXT_DIM
from clients.ingest import SiteData
from common.schema import EVENTS, PRODUCTS
from common.settings.load import load_config
from simulations.connectors.completejourney import JourneyConnector


class _Blank(FeatureCache):
    """Zeros in place of every vector."""

    def __init__(self, dim: int) -> None:
        super().__init__(FolderShards(Path("/nonexistent")))
        self._dim = dim

    def get(self, keys: Sequence[bytes], encode: Callable[[list[int]], Half], block: int = 512) -> Half:
        return np.zeros((len(keys), self._dim), np.float16)


def stores_as_arrays(folder: Path, most: int, users_per_site: int = 0) -> list[SiteDataset]:
    """Write the sites under a folder and read them back; their items have categories, but no vectors."""
    options = {"max_sites": most, "users_per_site": users_per_site}
    houses = []
    for site in JourneyConnector().write_sites(None, folder, "", options):
        with open_house(site.folder, (PRODUCTS, EVENTS)) as house:
            houses.append(house.data)
    config = load_config({
        "model": {"text": False, "image": False, "categories": _categories(houses)}
    })  # fmt: skip
    return [prepare_site(data, config, _blank) for data in houses]


def drawn_learners(site: SiteDataset, count: int, draw: int) -> SiteDataset:
    """The site that learns from so many of the users with an event before the test window, drawn by number."""
    known = np.unique(site.log.user[site.log.time < site.split.test_from])
    seed = [draw, *site.name.encode()]
    chosen = np.random.default_rng(seed).permutation(known)[:count]
    learners = np.zeros(len(site.user_ids), bool)
    learners[chosen] = True
    return replace(site, learners=learners)


def _categories(houses: Sequence[SiteData]) -> list[str]:
    return sorted({c for data in houses for c in data.products["category"].drop_nulls().to_list()})


def _blank(encoder: str) -> FeatureCache:
    return _Blank(IMAGE_DIM if encoder.startswith(IMAGE_ENCODER) else TEXT_DIM)
