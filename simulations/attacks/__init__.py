"""Attacks that a protection has to stand, or is known not to: each a function of what its attacker holds."""
