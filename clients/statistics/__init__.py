"""Counts that may leave a site: bounded per user, with whole-number noise, paid from the site's own ledger."""

from clients.statistics.answers import STATISTICS, Statistic, release

__all__ = ["STATISTICS", "Statistic", "release"]
