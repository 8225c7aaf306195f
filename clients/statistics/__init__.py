"""Counts of a site that may leave it: bounded per user, noisy in whole numbers, paid from the site's own ledger."""

from clients.statistics.answers import STATISTICS, Statistic, release

__all__ = ["STATISTICS", "Statistic", "release"]
