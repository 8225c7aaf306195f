"""One bazaar shop with a catalogue to align, and a cache of its features."""

from __future__ import annotations

from pathlib import Path

import pytest

from clients.alignment.vectors import Features
from clients.encoders import FeatureCache, FolderShards
from clients.ingest import SiteData, read_site
from simulations.bazaar import BazaarConfig, write_league

ITEMS = 240


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("features")


@pytest.fixture(scope="session")
def features(cache: Path) -> Features:
    return lambda encoder: FeatureCache(FolderShards(cache / encoder))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("league")
    config = BazaarConfig(n_sites=1, held_out=0, users_per_site=30, items_per_site=ITEMS, skew=0.5)
    return write_league(out, config)[0]


@pytest.fixture(scope="session")
def site(folder: Path) -> SiteData:
    return read_site(folder)
