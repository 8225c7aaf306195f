"""Encryption schemes by name, as the league's settings choose them.

    bfv            `common.he.bfv`, raw SEAL objects: the default
    bfv-public     `common.he.bfv_public`, TenSEAL's public interface
    ckks/…         `common.he.ckks`, with its parameters

Invariant: a name means the same scheme on both sides and in all their processes.
"""

from __future__ import annotations

from functools import cache

from common.errors import ConfigError
from common.he import bfv, ckks
from common.he.cipher import Scheme
from common.settings.config import RoundsConfig


def name_of(rounds: RoundsConfig) -> str:
    """The name of the scheme in a league's settings."""
    if rounds.protection == "ckks":
        return f"ckks/{rounds.ckks}"
    return {"seal": "bfv", "tenseal": "bfv-public"}[rounds.backend]


def scheme_of(rounds: RoundsConfig) -> Scheme:
    """The scheme in a league's settings."""
    return scheme(name_of(rounds))


@cache
def scheme(name: str) -> Scheme:
    """The scheme of a name, one per process: making it costs as much as encrypting 10,000 numbers.

    Raises
    ------
    ConfigError : there is no such scheme.
    """
    if name == "bfv":
        return bfv.scheme()
    if name == "bfv-public":
        # Imported late: the public interface loads more of TenSEAL than most leagues need.
        from common.he import bfv_public

        return bfv_public.Scheme()
    if name.startswith("ckks/"):
        return ckks.Scheme(name.removeprefix("ckks/"))
    raise ConfigError(f"there is no encryption scheme '{name}'", where="rounds")
