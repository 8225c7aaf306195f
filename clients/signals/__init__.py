"""Signals: what speaks for an item to a customer, computed at home and without ids; the ranker's inputs."""
