"""Secure aggregation as both sides know it: masks, secret shares, and the contents of the messages."""
