"""What the encryption schemes have in common: keys at sites, sums of ciphertexts at the coordinator.

A scheme encrypts a vector of values, `slots` a ciphertext: words modulo t (`exact`) or floats. Invariants: a sum is
made of parsed ciphertexts only; what a scheme parses has the scheme's lengths; whatever can break on a peer's bytes is
marked `apart` and runs in a process with little memory (`common.he.limited_process`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from common.errors import WireError

Buffer = bytes | memoryview
Values = NDArray[np.uint64] | NDArray[np.float64]


class Scheme(ABC):
    """One set of parameters.

    Parameters
    ----------
    parameters : text that enters the contract's digest.
    slots : values a ciphertext.
    exact : whether values are words modulo t, whose sums have no error.
    fresh_bytes, sum_bytes : bounds on a ciphertext's length, fresh and as part of a sum.
    apart : keys too are used in a process of their own only.
    """

    parameters: str
    slots: int
    exact: ClassVar[bool] = True
    apart: ClassVar[bool] = False
    fresh_bytes: tuple[int, int]
    sum_bytes: tuple[int, int]

    @abstractmethod
    def key(self, secret: bytes | None = None) -> Key:
        """A new key, or one from its bytes."""

    @abstractmethod
    def sum(self, count: int) -> Sum:
        """An empty sum of `count` values."""

    def ciphertexts(self, count: int) -> int:
        """Ciphertexts that `count` values take."""
        return -(-count // self.slots)

    def chunks(self, values: Values) -> Iterator[Values]:
        """Values by the ciphertext."""
        return (values[start : start + self.slots] for start in range(0, len(values), self.slots))

    def require_number(self, parts: Sequence[Buffer], count: int, *, where: str) -> None:
        """Raises
        ------
        WireError : another number of ciphertexts than the values take.
        """
        if len(parts) != self.ciphertexts(count):
            raise WireError(f"{len(parts)} ciphertexts can't hold {count} words", where=where)


class Key(ABC):
    """The league's secret key of one epoch, which sites hold and the coordinator never does."""

    @abstractmethod
    def secret(self) -> bytes:
        """The key itself, for wrapping to other sites."""

    @abstractmethod
    def encrypt(self, values: Values) -> list[bytes]:
        """Fresh ciphertexts."""

    @abstractmethod
    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        """The values of a sum; WireError where it isn't one of this key."""


class Sum(ABC):
    """One running encrypted sum; its size doesn't depend on the number of sites."""

    @abstractmethod
    def parse(self, parts: Sequence[Buffer], *, where: str) -> Any:
        """An upload's ciphertexts, all checked before any is added; WireError where one isn't of this scheme."""

    @abstractmethod
    def add(self, parts: Any) -> None:
        """Fold one parsed upload."""

    @abstractmethod
    def subtract(self, values: Values) -> None:
        """Take known values out of the sum."""

    @abstractmethod
    def saved(self) -> list[bytes]:
        """The sum's ciphertexts."""
