"""What the messages of a protected round state and what is signed, the same at the sites and at the coordinator.

Invariant: an `Attempt` names everything on which the masks of one attempt at a round depend. Its label is part of every
pair seed, every survivor signature and every upload, so nothing made for one attempt can be used in another.

>>> Attempt(1, "00", {"amber": 1.0, "birch": 3.0}).share(["birch"])
0.75
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from common.canonical import canonical
from common.crypto.fields import MODULUS, Packing
from common.errors import ConfigError, WireError
from common.he.schemes import scheme_of
from common.protocol.wire import FloatVector, Layout
from common.secagg.masks import SLICE_BYTES, attempt_label
from common.settings.config import RoundsConfig

LEAST_GROUP = 3
REFUSED = "the sum is refused"


@dataclass(frozen=True)
class Attempt:
    """One attempt at one round.

    Parameters
    ----------
    nonce : drawn by the coordinator, so that a round can be tried again under fresh masks.
    weights : the contract's weight of each site of the cohort.
    epoch : which of the league's keys the attempt uses.
    """

    round: int
    nonce: str
    weights: Mapping[str, float]
    epoch: int = 1

    @property
    def names(self) -> list[str]:
        """The cohort, in site order."""
        return sorted(self.weights)

    def label(self, run: str) -> str:
        """64 hex digits, a hash of the run and all fields."""
        parts = [f"epoch={self.epoch}", *(f"{name}={self.weights[name]!r}" for name in self.names)]
        return attempt_label(run, self.round, self.nonce, parts)

    def share(self, names: Iterable[str]) -> float:
        """The named sites' fraction of the cohort's weight, in (0, 1]."""
        chosen = set(names)
        return math.fsum(self.weights[n] for n in self.names if n in chosen) / math.fsum(
            self.weights.values()
        )

    def packing(self, rounds: RoundsConfig) -> Packing:
        """How whole numbers are packed into words."""
        return Packing(rounds.field_bits, rounds.fields)

    def scale(self, rounds: RoundsConfig) -> float:
        """Whole numbers per 1.0 of the mean, with headroom for the sum over this cohort."""
        return self.packing(rounds).scale(rounds.clip_range, len(self.weights))

    def to_json(self) -> str:
        """Canonical JSON."""
        facts = {"round": self.round, "nonce": self.nonce, "weights": dict(self.weights), "epoch": self.epoch}
        return canonical(facts).decode()

    @classmethod
    def of(cls, text: str) -> Attempt:
        """The inverse of `to_json`.

        Raises
        ------
        WireError : it isn't a round, a nonce and positive weights.
        """
        try:
            data = json.loads(text)
            weights = {str(name): float(weight) for name, weight in data["weights"].items()}
            attempt = cls(int(data["round"]), str(data["nonce"]), weights, int(data["epoch"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise WireError("the round's attempt can't be read", where="attempt") from None
        if not weights or not all(math.isfinite(w) and w > 0 for w in weights.values()):
            raise WireError("a weight of the cohort is out of range", where="attempt")
        return attempt


@dataclass(frozen=True)
class GroupSum:
    """The encrypted sum of one attempt, as the coordinator hands it to the sites."""

    attempt: Attempt
    survivors: list[str]
    parts: Sequence[bytes | memoryview]


def numbers(rounds: RoundsConfig, size: int) -> int:
    """How many numbers a site sends for a model of `size` parameters; a protected count is one more."""
    return size + (rounds.weights == "count")


def values_of(rounds: RoundsConfig, size: int) -> int:
    """How many values are masked or encrypted: packed words, or under `ckks` the numbers themselves."""
    if rounds.protection == "ckks":
        return size
    return Packing(rounds.field_bits, rounds.fields).words(numbers(rounds, size))


def groups_of(
    rounds: RoundsConfig, seed: int, round_: int, cohort: Sequence[str], suspects: Collection[str] = ()
) -> list[list[str]]:
    """Random groups of three or more sites, drawn from the public seed; a small cohort is one group.

    Parameters
    ----------
    suspects : sites of which some spoiled a group; they are spread evenly over the groups, the others fill up.

    Raises
    ------
    ConfigError : the contract asks for groups under a protection that has none.
    """
    if rounds.groups == 1:
        return [sorted(cohort)]
    if rounds.protection != "he+masked":
        raise ConfigError("groups are of he+masked only", where="rounds.groups")
    count = max(1, min(rounds.groups, len(cohort) // LEAST_GROUP))
    shuffled = np.random.default_rng([seed, round_, 1]).permutation(sorted(cohort)).tolist()
    order = sorted(shuffled, key=lambda name: name not in suspects)
    return sorted(sorted(order[place::count]) for place in range(count))


def norm_bound(rounds: RoundsConfig, size: int) -> float:
    """The largest norm of an update, and so of a mean of updates: a root mean square of a quarter of the clip range.

    A masked upload that is passed off as the sum is uniform noise. Its root mean square is 0.58 of the range, so it is
    refused.
    """
    return min(rounds.max_update_norm, 0.25 * rounds.clip_range * math.sqrt(size))


def bounded(update: FloatVector, rounds: RoundsConfig) -> FloatVector:
    """The update, scaled down to the bound if its norm is above it."""
    norm, bound = float(np.sqrt(np.vdot(update, update))), norm_bound(rounds, update.size)
    return update * np.float32(bound / norm) if norm > bound else update


def upload_facts(
    run: str, rounds: RoundsConfig, layout: Layout, attempt: Attempt, site: str
) -> dict[str, str | int]:
    """The facts that a site's container states."""
    fields = [rounds.clip_range, rounds.max_update_norm, rounds.field_bits, rounds.fields, rounds.rounding]
    count_bound = rounds.count_bound if rounds.weights == "count" else 0
    scheme = scheme_of(rounds).parameters if rounds.encrypted else f"words modulo {MODULUS}"
    contract = [rounds.protection, scheme, layout.digest, layout.size, fields, count_bound]
    return {
        "version": 1, "run": run, "round": attempt.round, "site": site, "epoch": attempt.epoch,
        "attempt": attempt.label(run),
        "contract": hashlib.sha256(canonical(contract)).hexdigest(),
    }  # fmt: skip


def upload_parts(rounds: RoundsConfig, values: int) -> int:
    """How many parts of an upload carry the update; the shares follow them."""
    return scheme_of(rounds).ciphertexts(values) if rounds.encrypted else 1


def most_bytes(rounds: RoundsConfig, values: int, sites: int) -> int:
    """The length in bytes of the longest upload that a contract allows."""
    body = 8 * values
    if rounds.encrypted:
        body = upload_parts(rounds, values) * scheme_of(rounds).fresh_bytes[1]
    return body + sites * (SLICE_BYTES * sites + 64) + (1 << 18)


def bundle_message(run: str, bundle: Mapping[str, Any]) -> bytes:
    """What a site signs of its own public keys."""
    return b"hansa bundle 1\x00" + canonical([run, dict(bundle)])


def wrap_message(run: str, body: Mapping[str, Any]) -> bytes:
    """What the steward signs of the wrapped key."""
    return b"hansa key 1\x00" + canonical([run, dict(body)])


def survivor_message(label: str, survivors: Sequence[str]) -> bytes:
    """What each survivor signs before anyone reveals a share."""
    return b"hansa survivors 1\x00" + canonical([label, list(survivors)])
