"""How often Flower looks whether a part of a message has come: several times a second, in place of once.

Invariant: only pauses change.
"""

from __future__ import annotations

from flwr.supercore.inflatable import inflatable_utils

PACE = {"initial_backoff": 0.05, "backoff_cap": 1.0, "max_tries_per_object": 10_000}


def quicken() -> None:
    """Change it for this process."""
    for function in (inflatable_utils.pull_objects, inflatable_utils.pull_and_inflate_object_from_tree):
        defaults = function.__kwdefaults__
        if defaults is None or not set(PACE) <= set(defaults):
            raise RuntimeError("this isn't the Flower that Hansa was made for")
        defaults.update(PACE)
