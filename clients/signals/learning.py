"""What one site learns the ranker from and with what it ranks: its rows and its tables, each made once."""

from __future__ import annotations

import functools

from clients.data.dataset import SiteDataset
from clients.signals.rows import Choice, FitRows, earlier_windows, window_rows
from clients.signals.table import SignalTable
from clients.training.samples import derived_seed
from common.privacy.guarantee import PROTECTS_UNITS
from common.settings.config import LeagueConfig

PRIVATE_ROWS = 1500  # customers of a window, about, that teach under privacy of users


class Learning:
    """The rows of one site by window, and its signals at the instants that count."""

    def __init__(self, site: SiteDataset, config: LeagueConfig) -> None:
        self.site, self._config = site, config

    @functools.cached_property
    def before(self) -> FitRows:
        """Rows of the windows before the validation window."""
        return FitRows.joined([self._rows(SignalTable(self.site, w[0]), w) for w in self._windows])

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

    @property
    def _windows(self) -> list[tuple[int, int]]:
        return earlier_windows(self.site, public=self._of_users)

    @property
    def _of_users(self) -> bool:
        """Whether single customers are promised something: then none may decide of another's rows."""
        return self._config.privacy.mode in PROTECTS_UNITS

    def _rows(self, table: SignalTable, window: tuple[int, int]) -> FitRows:
        seed = derived_seed(self._config.seed, self.site.name, "ranker", *window)
        share = min(1.0, PRIVATE_ROWS / self._config.privacy.expected_users) if self._of_users else None
        return window_rows(self.site, table, window, self._config.model.history_length, Choice(seed, share))
