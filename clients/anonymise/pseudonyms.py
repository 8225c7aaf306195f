"""Keyed pseudonyms: at one site a person always has the same pseudonym, and only the key can link it to the person.

Invariant: a pseudonym is HMAC-SHA256 (RFC 2104) of the id under the site's own key. So ids can't be found by hashing
all candidates, and two sites have different pseudonyms for a person. The caller passes the key and keeps it in the
vault.

>>> Pseudonyms(bytes(32)).of("u1") == Pseudonyms(bytes(32)).of("u1")
True
"""

from __future__ import annotations

import hashlib
import hmac

import polars as pl

from common.errors import ConfigError

KEY_BYTES = 32
# 20 hex digits: among a billion users two share a name with a chance of about 4e-7.
DIGITS = 20


class Pseudonyms:
    """Gives pseudonyms to the persons of one site.

    Parameters
    ----------
    key : `KEY_BYTES` bytes from the operating system's generator.

    Raises
    ------
    ConfigError : the key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError(f"a pseudonym key has {KEY_BYTES} bytes", where="pseudonym key")
        self._mac = hmac.new(key, digestmod=hashlib.sha256)

    def of(self, identity: str, purpose: str = "user") -> str:
        """The pseudonym of one id; ids of different purposes (user, session) never have the same."""
        mac = self._mac.copy()
        mac.update(purpose.encode() + b"\0" + identity.encode())
        return mac.hexdigest()[:DIGITS]

    def of_all(self, ids: pl.Series, purpose: str = "user") -> pl.Series:
        """The pseudonyms of a column; null stays null."""
        distinct = ids.unique().drop_nulls()
        if distinct.is_empty():
            return ids
        named = [self.of(identity, purpose) for identity in distinct.to_list()]
        return ids.replace_strict(distinct, pl.Series(named, dtype=pl.String), default=None)
