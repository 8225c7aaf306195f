"""Sums of updates that the coordinator may read."""
