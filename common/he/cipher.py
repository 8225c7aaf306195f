"""The interface of the encryption schemes: keys at the sites, sums of ciphertexts at the coordinator.

A scheme encrypts a vector of values, `slots` of them per ciphertext: words modulo t (`exact`) or floats.

Invariants: only parsed ciphertexts are added to a sum, and a scheme parses only bytes of its own lengths. A scheme
whose parser hostile bytes can crash is marked `apart` and runs in a process with little memory
(`common.he.limited_process`).
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
    """A scheme with one set of parameters.

    Parameters
    ----------
    parameters : text that is part of the contract's digest.
    slots : values per ciphertext.
    exact : whether values are words modulo t, whose sums have no error.
    fresh_bytes, sum_bytes : least and greatest length of a ciphertext, fresh and in a sum.
    apart : whether keys too may be used only in a separate process.
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
        """How many ciphertexts `count` values need."""
        return -(-count // self.slots)

    def chunks(self, values: Values) -> Iterator[Values]:
        """The values of each ciphertext in turn."""
        return (values[start : start + self.slots] for start in range(0, len(values), self.slots))

    def require_number(self, parts: Sequence[Buffer], count: int, *, where: str) -> None:
        """Raises
        ------
        WireError : the number of ciphertexts isn't what the values need.
        """
        if len(parts) != self.ciphertexts(count):
            raise WireError(f"{len(parts)} ciphertexts can't hold {count} words", where=where)


class Key(ABC):
    """The league's secret key of one epoch. The sites hold it, the coordinator never does."""

    @abstractmethod
    def secret(self) -> bytes:
        """The key's bytes, to be wrapped for other sites."""

    @abstractmethod
    def encrypt(self, values: Values) -> list[bytes]:
        """Fresh ciphertexts."""

    @abstractmethod
    def decrypt(self, parts: Sequence[Buffer], count: int, *, where: str) -> Values:
        """The values of a sum; raises WireError if it isn't a sum under this key."""


class Sum(ABC):
    """A running encrypted sum; its size doesn't depend on the number of sites."""

    @abstractmethod
    def parse(self, parts: Sequence[Buffer], *, where: str) -> Any:
        """Check and parse all ciphertexts of an upload; raises WireError if one is of another scheme."""

    @abstractmethod
    def add(self, parts: Any) -> None:
        """Add one parsed upload."""

    @abstractmethod
    def subtract(self, values: Values) -> None:
        """Subtract known values from the sum."""

    @abstractmethod
    def saved(self) -> list[bytes]:
        """The sum's ciphertexts."""
