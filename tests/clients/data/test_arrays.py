"""A folder's learners: the first in id order of those who were there before the test window."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from clients.data.arrays import first_learners
from clients.trainer import open_site
from common.settings.config import LeagueConfig
from common.settings.load import with_overrides
from common.storage.run_folder import RunFolder
from simulations.runs.results import RunSummary
from tests.clients.five_users import day, log_of

LOG = log_of([(0, "view", 1, 15.0), (1, "search", -1, 2.0), (3, "view", 0, 13.9), (4, "purchase", 2, 1.0)])


@pytest.mark.parametrize(
    ("max_users", "marked"), [(1, [1]), (2, [1, 3]), (3, [1, 3, 4]), (9, [1, 3, 4]), (0, [0, 1, 2, 3, 4])]
)
def test_users_of_the_test_window_use_up_no_place(max_users: int, marked: list[int]) -> None:
    learners = first_learners(LOG, day(14), max_users)
    assert np.flatnonzero(learners).tolist() == marked
    assert learners.dtype == bool


@pytest.fixture(scope="module")
def config(tiny_league: RunSummary) -> LeagueConfig:
    return RunFolder(tiny_league.run).config()


def test_a_folder_is_cut_to_the_first_users_before_the_test_window(
    tiny_league: RunSummary, config: LeagueConfig
) -> None:
    folder = Path(RunFolder(tiny_league.run).sites()[0].folder)
    site = open_site(folder, with_overrides(config, {"training.max_users": 5})).dataset
    events = pl.read_csv(folder / "events.csv", infer_schema=False)
    instant = np.datetime64(site.split.test_from, "s").item()
    early = events.filter(pl.col("at").str.to_datetime(time_zone="UTC").dt.replace_time_zone(None) < instant)
    first = early["user_id"].unique().sort().to_list()[:5]
    assert [name for name, is_one in zip(site.user_ids, site.learners, strict=True) if is_one] == first
    assert open_site(folder, config).dataset.learners.all()
