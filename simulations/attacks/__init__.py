"""Attacks that a protection must withstand, or is known not to; each is a function of what its attacker holds."""
