"""The way of an update as one list of steps: each works on the way out, and in reverse on the sum's way back.

    masked      clip · quantise · pack · mask · sign
    he          clip · quantise · pack · encrypt · sign
    he+masked   clip · quantise · pack · mask · encrypt · sign
    ckks        clip · weigh · encrypt · sign
    plain       (nothing: the coordinator is trusted, and bounds what it gets)

Invariant: back(Σ out(updateᵢ)) is the survivors' weighted mean of the clipped updates, but for the rounding to whole
numbers, whose sum has no error at all; under `ckks` to 1e-7. What needs no secret is here; `clients.secagg.steps` has
the rest.
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
    """What all steps of one site, or of the coordinator, know of an attempt.

    Parameters
    ----------
    site : whose update travels; empty for a sum.
    seed : the league's public one.
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
    """An update on its way out, or a sum on its way back.

    Parameters
    ----------
    values : a float vector, then whole numbers, words, ciphertexts, at last one message.
    users : what a site claims to have learned from; counts under `weights = count` only.
    survivors : the sites of a sum.
    shares : sealed shares of a site's masks, by place in the cohort.
    rounding : of a sum on its way back, the most that whole numbers moved a number of the mean.
    """

    values: Any
    users: float = 1.0
    survivors: Sequence[str] = ()
    shares: list[bytes] = field(default_factory=list)
    rounding: float = 0.0


class Step(ABC):
    """One step both ways."""

    def __init__(self, terms: Terms) -> None:
        self.terms = terms

    @abstractmethod
    def out(self, parcel: Parcel) -> None:
        """Change an update on its way out."""

    @abstractmethod
    def back(self, parcel: Parcel) -> None:
        """Undo it on a sum; WireError where the sum can't be one of such updates."""


class Clip(Step):
    """Cut to the contract's norm; back: a mean of such updates is finite, in range in each layer, and no longer.

    A mean of honest updates always passes, so a sum that doesn't holds a lie (`common.secagg.suspicion`).
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
    """Weigh and round to whole numbers; under `weights = count` the site's bounded count is one number more.

    With counts nᵢ of at most B of N sites, numbers are round(Δᵢ · nᵢ/(B·N) · scale), and the mean is Σ Δᵢnᵢ / Σ nᵢ.
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
    """Several whole numbers a word modulo t."""

    def out(self, parcel: Parcel) -> None:
        parcel.values = self.terms.packing.pack(parcel.values)

    def back(self, parcel: Parcel) -> None:
        size = numbers(self.terms.rounds, self.terms.layout.size)
        parcel.values = self.terms.packing.unpack(parcel.values, size)


class Weigh(Step):
    """Clip each number and weigh, in floats."""

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
    """What leaves after all steps."""
    for step in steps:
        step.out(parcel)
    return parcel.values


def open_sum(steps: Sequence[Step], parcel: Parcel) -> wire.FloatVector:
    """The mean of a sum, through the steps in reverse.

    Raises
    ------
    WireError : a step's check fails.
    """
    for step in reversed(steps):
        step.back(parcel)
    found: wire.FloatVector = parcel.values
    return found


def _chance(terms: Terms) -> np.random.Generator | None:
    """Draws for stochastic rounding: public, and the same when a round is asked for again."""
    if terms.rounds.rounding == "nearest":
        return None
    text = f"{terms.seed}/{terms.site}/{terms.attempt.round}/rounding"
    return np.random.default_rng(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
