"""Secure aggregation: masks, shares, and what the parties tell each other."""
