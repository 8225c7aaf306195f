"""What one site learns the ranker from and with what it ranks: its rows and its tables, each made once."""

from __future__ import annotations

import functools

import numpy as np

from clients.data.dataset import SiteDataset
from clients.signals.rows import Asking, FitRows, earlier_windows, window_rows
from clients.signals.table import SignalTable
from clients.training.samples import derived_seed
from common.privacy.guarantee import PROTECTS_UNITS
from common.settings.config import LeagueConfig

ASKED = 1500  # customers of a site that protects them, about; memory grows with them


class Learning:
    """The rows of one site by window, and its signals at the instants that count."""

    def __init__(self, site: SiteDataset, config: LeagueConfig) -> None:
        self.site = site
        seed = derived_seed(config.seed, site.name, "ranker")
        privacy = config.privacy
        rate = min(1.0, ASKED / privacy.expected_users) if privacy.mode in PROTECTS_UNITS else None
        self._asking = Asking(config.model.history_length, seed, rate)

    @functools.cached_property
    def before(self) -> FitRows:
        """Rows of the windows before the validation window."""
        return FitRows.joined(
            [
                self._rows(SignalTable(self.site, window[0]), window)
                for window in earlier_windows(self.site, self._asking.rate is not None)
            ]
        )

    @functools.cached_property
    def valid(self) -> FitRows:
        """Rows of the validation window."""
        split = self.site.split
        return self._rows(self.at_valid, (split.valid_from, split.test_from))

    @functools.cached_property
    def every(self) -> FitRows:
        """All rows before the test window."""
        return FitRows.joined([self.before, self.valid])

    @functools.cached_property
    def at_valid(self) -> SignalTable:
        """The signals at the start of the validation window."""
        return SignalTable(self.site, self.site.split.valid_from)

    @functools.cached_property
    def at_test(self) -> SignalTable:
        """The signals at the start of the test window."""
        return SignalTable(self.site, self.site.split.test_from)

    def _rows(self, table: SignalTable, window: tuple[int, int]) -> FitRows:
        return window_rows(self.site, table, window, self._asking)

    def users(self) -> int:
        """How many customers have a row."""
        return len(np.unique(self.every.user))
