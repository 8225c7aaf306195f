"""Encryption schemes by name, as the league's settings choose them.

    bfv            `he`, raw SEAL objects: the default
    bfv-public     `he_public`, TenSEAL's public interface
    ckks/…         `ckks`, with its parameters

Invariant: both sides, and every process of theirs, find the same scheme under the same name.
"""

from __future__ import annotations

from functools import cache

from common.errors import ConfigError
from common.he import bfv, ckks
from common.he.cipher import Scheme
from common.settings.config import RoundsConfig


def name_of(rounds: RoundsConfig) -> str:
    """The scheme of a league's settings."""
    if rounds.protection == "ckks":
        return f"ckks/{rounds.ckks}"
    return {"seal": "bfv", "tenseal": "bfv-public"}[rounds.backend]


def scheme_of(rounds: RoundsConfig) -> Scheme:
    """The same, ready for use."""
    return scheme(name_of(rounds))


@cache
def scheme(name: str) -> Scheme:
    """This process's parameters of a scheme: making them costs as much as encrypting 10,000 numbers.

    Raises
    ------
    ConfigError : there is no such scheme.
    """
    if name == "bfv":
        return bfv.scheme()
    if name == "bfv-public":
        # Late: the public interface brings more of TenSEAL than most leagues need.
        from common.he import bfv_public

        return bfv_public.Scheme()
    if name.startswith("ckks/"):
        return ckks.Scheme(name.removeprefix("ckks/"))
    raise ConfigError(f"there is no encryption scheme '{name}'", where="rounds")
