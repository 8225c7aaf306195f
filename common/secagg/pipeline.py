"""The steps that protect an update: applied in order to the update, and undone in reverse order on the sum.

    masked      clip · quantise · pack · mask · sign
    he          clip · quantise · pack · encrypt · sign
    he+masked   clip · quantise · pack · mask · encrypt · sign
    ckks        clip · weigh · encrypt · sign
    plain       (nothing: the coordinator is trusted, and clips what it receives)

Invariant: back(Σ out(updateᵢ)) is the survivors' weighted mean of the clipped updates. The only error is that of
rounding each update to whole numbers; their sum is exact. Under `ckks` the error is 1e-7. Steps that need no secret are
here, the others in `clients.secagg.steps`.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from common.crypto.fields import Packing, dequantise, quantise
from common.errors import WireError
from common.protocol import wire
from common.secagg.protocol import Attempt, bounded, norm_bound, numbers
from common.settings.config import RoundsConfig

STEPS: Mapping[str, tuple[str, ...]] = MappingProxyType({
    "plain": (),
    "masked": ("clip", "quantise", "pack", "mask", "sign"),
    "he": ("clip", "quantise", "pack", "encrypt", "sign"),
    "he+masked": ("clip", "quantise", "pack", "mask", "encrypt", "sign"),
    "ckks": ("clip", "weigh", "encrypt", "sign"),
})  # fmt: skip
"""Protection → its steps on the way out."""

_SLACK = 1.001


@dataclass(frozen=True)
class Terms:
    """What all steps know of an attempt, at a site or at the coordinator.

    Parameters
    ----------
    site : the site whose update is sent; empty for a sum.
    seed : the league's public seed.
    """

    rounds: RoundsConfig
    layout: wire.Layout
    attempt: Attempt
    site: str = ""
    seed: int = 0
    where: str = "sum"

    @property
    def packing(self) -> Packing:
        return self.attempt.packing(self.rounds)

    @property
    def scale(self) -> float:
        return self.attempt.scale(self.rounds)


@dataclass
class Parcel:
    """An update that is being protected, or a sum that is being opened.

    Parameters
    ----------
    values : a float vector first, then whole numbers, words, ciphertexts, and in the end one message.
    users : how many users the site says it learned from; used under `weights = count` only.
    survivors : the sites whose updates are in the sum.
    shares : encrypted shares of the seeds of a site's masks, by place in the cohort.
    rounding : for a sum, the most that rounding to whole numbers can have moved any number of the mean.
    """

    values: Any
    users: float = 1.0
    survivors: Sequence[str] = ()
    shares: list[bytes] = field(default_factory=list)
    rounding: float = 0.0


class Step(ABC):
    """One step of a protection, in both directions."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @abstractmethod
    def out(self, parcel: Parcel) -> None:
        """Apply the step to an update."""

    @abstractmethod
    def back(self, parcel: Parcel) -> None:
        """Undo the step on a sum; raises WireError if no updates of this kind have such a sum."""


class Clip(Step):
    """Clip to the contract's norm; back: check that the mean is finite, in range in each layer, and within the norm.

    A mean of honest updates always passes, so a sum that fails holds a forged update (`common.secagg.suspicion`).
    """

    def out(self, parcel: Parcel) -> None:
        parcel.values = bounded(parcel.values, self.terms.rounds)

    def back(self, parcel: Parcel) -> None:
        mean, rounds, where = parcel.values, self.terms.rounds, self.terms.where
        wire.check_finite(mean, where=where)
        for name, part in self.terms.layout.unflatten(mean).items():
            if float(np.abs(part).max(initial=0.0)) > rounds.clip_range * _SLACK + parcel.rounding:
                raise WireError(f"the sum moves '{name}' by more than the contract allows", where=where)
        rounding = parcel.rounding * math.sqrt(mean.size)
        if float(np.sqrt(np.vdot(mean, mean))) > norm_bound(rounds, mean.size) * _SLACK + rounding:
            raise WireError("the sum's norm is above what the contract allows", where=where)


class Quantise(Step):
    """Weigh and round to whole numbers; under `weights = count` the site's bounded count is appended as one number.

    N sites have counts nᵢ ≤ B. The numbers sent are round(Δᵢ · nᵢ/(B·N) · scale), and the mean is Σ Δᵢnᵢ / Σ nᵢ.
    """

    def out(self, parcel: Parcel) -> None:
        terms, rounds = self.terms, self.terms.rounds
        share, count = terms.attempt.share([terms.site]), 0
        if rounds.weights == "count":
            count = max(1, min(rounds.count_bound, round(parcel.users)))
            share = count / (rounds.count_bound * len(terms.attempt.names))
        whole = quantise(parcel.values, share, rounds.clip_range, terms.scale, _chance(terms))
        parcel.values = np.append(whole, count) if count else whole

    def back(self, parcel: Parcel) -> None:
        terms, rounds, survivors = self.terms, self.terms.rounds, len(parcel.survivors)
        total, share = parcel.values, terms.attempt.share(parcel.survivors)
        if rounds.weights == "count":
            total, count = total[:-1], int(total[-1])
            if not survivors <= count <= survivors * rounds.count_bound:
                raise WireError("the sum of the counts is impossible", where=terms.where)
            share = count / (rounds.count_bound * len(terms.attempt.names))
        parcel.values = dequantise(total, share, terms.scale)
        parcel.rounding = survivors / (terms.scale * share)


class Pack(Step):
    """Pack several whole numbers into each word modulo t."""

    def out(self, parcel: Parcel) -> None:
        parcel.values = self.terms.packing.pack(parcel.values)

    def back(self, parcel: Parcel) -> None:
        size = numbers(self.terms.rounds, self.terms.layout.size)
        parcel.values = self.terms.packing.unpack(parcel.values, size)


class Weigh(Step):
    """Clip each number and multiply by the site's weight, in floats."""

    def out(self, parcel: Parcel) -> None:
        if not np.isfinite(parcel.values).all():
            raise WireError("the update holds NaN or infinite values", where="weigh")
        limit = self.terms.rounds.clip_range
        share = self.terms.attempt.share([self.terms.site])
        parcel.values = np.clip(parcel.values.astype(np.float64), -limit, limit) * share

    def back(self, parcel: Parcel) -> None:
        share = self.terms.attempt.share(parcel.survivors)
        with np.errstate(over="ignore"):  # what isn't finite then is refused by `Clip`
            parcel.values = (parcel.values / share).astype(np.float32)


OPEN_STEPS: Mapping[str, type[Step]] = MappingProxyType({
    "clip": Clip, "quantise": Quantise, "pack": Pack, "weigh": Weigh,
})  # fmt: skip
"""Steps that need no secret."""


def open_steps(terms: Terms) -> list[Step]:
    """A protection's steps before any secret is used, on the way out."""
    return [OPEN_STEPS[name](terms) for name in STEPS[terms.rounds.protection] if name in OPEN_STEPS]


def send(steps: Sequence[Step], parcel: Parcel) -> Any:
    """Apply all steps to an update; the result is what leaves the site."""
    for step in steps:
        step.out(parcel)
    return parcel.values


def open_sum(steps: Sequence[Step], parcel: Parcel) -> wire.FloatVector:
    """Undo the steps on a sum, in reverse order; returns the mean.

    Raises
    ------
    WireError : a step's check fails.
    """
    for step in reversed(steps):
        step.back(parcel)
    mean: wire.FloatVector = parcel.values
    return mean


def _chance(terms: Terms) -> np.random.Generator | None:
    """The generator for stochastic rounding: its seed is public, and the same when a round is repeated."""
    if terms.rounds.rounding == "nearest":
        return None
    text = f"{terms.seed}/{terms.site}/{terms.attempt.round}/rounding"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
