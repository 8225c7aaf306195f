"""`hansa bench scale`: what 10,000 sites would cost under a tree of coordinators, from costs measured here.

Each piece of work that grows with the sites is run and timed as it is (mask, encrypt, share, pass on, parse and add,
take leftover masks out, decrypt), and a sum of as many real ciphertexts as there would be sites is decrypted. Only the
putting together is arithmetic: `Tree.round`. Invariants: nothing is assumed but the speed of links and of training; no
sum of the plan holds more sites than keep four bits of noise budget (`MOST_SUMMED`).
`simulations/SCALE.md` says what it means.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects, get_object_tree

from common import wire
from common.crypto import he, masks, shamir
from common.crypto.fields import MODULUS, MOST_SUMMED, Packing, Words
from simulations.grid.flower import COORDINATOR, become

_TIMES = 5
_GROUPS = (10, 40)
_SITE_MBIT_S, _CENTRE_MBIT_S, _DELAY_S, _TRAIN_S = 20.0, 1000.0, 0.05, 30.0


@dataclass(frozen=True)
class Costs:
    """Measured for one vector. Seconds of one core; bytes.

    Parameters
    ----------
    protect_s, protect_peer_s : encrypt and mask an upload; more for each peer in the masked group.
    share_s : make the shares of one's seeds, by the square of the group; likewise `join_s` for the group's coordinator.
    pass_s : what Flower's messages cost for one upload, in and out.
    fold_s, add_s : parse and add a fresh upload; parse and add another coordinator's sum.
    open_s : decrypt, unpack and check a sum.
    """

    upload_bytes: int
    sum_bytes: int
    protect_s: float
    protect_peer_s: float
    share_s: float
    join_s: float
    pass_s: float
    fold_s: float
    add_s: float
    leftover_s: float
    open_s: float


@dataclass(frozen=True)
class Tree:
    """Coordinators over coordinators, each with at most `fanout` parties below it; `fanout` ≥ sites means one alone."""

    sites: int
    fanout: int
    cores: int = 4
    site_mbit_s: float = _SITE_MBIT_S
    centre_mbit_s: float = _CENTRE_MBIT_S
    delay_s: float = _DELAY_S
    train_s: float = _TRAIN_S

    @property
    def levels(self) -> list[int]:
        """Coordinators of each level, from those next to the sites to the one at the top."""
        counts = [math.ceil(self.sites / self.fanout)]
        while counts[-1] > 1:
            counts.append(math.ceil(counts[-1] / self.fanout))
        return counts

    def sums(self, level: int) -> int:
        """Sums that stand for all sites below one coordinator of a level, none of more than `MOST_SUMMED` sites."""
        return math.ceil(min(self.sites, self.fanout ** (level + 1)) / MOST_SUMMED)

    def round(self, costs: Costs) -> dict[str, float]:
        """Seconds and bytes of one round.

        A site trains, protects, and sends; its coordinator folds, agrees and opens the leftover masks of its own group;
        sums go up, each level adding those of the level below as far as a sum may grow; the top's sums come down; sites
        decrypt each and add. The groups of one level work at the same time, and so do the cores of a coordinator on
        uploads that are there.
        """
        group, inner = min(self.fanout, self.sites), len(self.levels) - 1
        site_s = costs.protect_s + costs.protect_peer_s * (group - 1) + costs.share_s * group**2
        sent_s = self._sent_s(costs.upload_bytes, self.site_mbit_s)
        work_s = group * (costs.pass_s + costs.fold_s) / self.cores
        arrive_s = max(sent_s, self._sent_s(group * costs.upload_bytes, self.centre_mbit_s))
        settle_s = 4 * self.delay_s + costs.leftover_s * group + costs.join_s * group**2
        gather_s = max(arrive_s, work_s) + settle_s
        handed = self.sums(inner)
        up_s, down_s = (
            sum(self._up_s(costs, level) for level in range(inner)),
            self._down_s(costs, inner, handed),
        )
        open_s = handed * costs.open_s
        total = self.train_s + site_s + self.delay_s + gather_s + up_s + down_s + open_s
        site_bytes = costs.upload_bytes + handed * costs.sum_bytes
        return {
            "site_s": site_s + open_s, "gather_s": gather_s, "up_s": up_s, "down_s": down_s, "round_s": total,
            "sums_handed_down": handed, "site_mb": site_bytes / 1e6, "busiest_mb": group * site_bytes / 1e6,
            "busiest_core_s": group * ((1 + handed) * costs.pass_s + costs.fold_s + costs.leftover_s)
            + costs.join_s * group**2,
        }  # fmt: skip

    def _below(self, level: int) -> int:
        """Coordinators of a level below one of the next."""
        return min(self.fanout, self.levels[level])

    def _up_s(self, costs: Costs, level: int) -> float:
        """A level hands its sums to the next, which adds them."""
        count = self._below(level) * self.sums(level)
        return (
            self.delay_s + self._sent_s(count * costs.sum_bytes, self.centre_mbit_s)
            + count * (costs.pass_s + costs.add_s) / self.cores
        )  # fmt: skip

    def _down_s(self, costs: Costs, inner: int, handed: int) -> float:
        """The top's sums go to each coordinator below, and from the lowest to their sites."""
        size, group = handed * costs.sum_bytes, min(self.fanout, self.sites)
        between_s = sum(
            self.delay_s + self._sent_s(self._below(level) * size, self.centre_mbit_s)
            for level in range(inner)
        )
        out_s = self._sent_s(group * size, self.centre_mbit_s) + group * handed * costs.pass_s / self.cores
        return between_s + self.delay_s + max(self._sent_s(size, self.site_mbit_s), out_s)

    def _sent_s(self, count: float, mbit_s: float) -> float:
        return 8 * count / (mbit_s * 1e6)


def run(quick: bool) -> dict[str, Any]:
    """Measure 0.2 M parameters, and 1 M where there is time; then 10 to 10,000 sites, alone and by hundreds."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in [200_000] if quick else [200_000, 1_000_000]:
        costs = measure(size)
        rows.append(
            {"what": "costs", "parameters": size, **{k: round(v, 6) for k, v in asdict(costs).items()}}
        )
        rounds = {}
        for sites in (10, 100, 1000, 10_000):
            for fanout in sorted({100, sites}):
                tree = Tree(sites, fanout)
                rounds[sites, fanout] = found = tree.round(costs)
                told = {name: round(value, 2) for name, value in found.items()}
                coordinators = sum(tree.levels)
                rows.append({"what": "round", "parameters": size, "sites": sites, "fanout": fanout,
                             "coordinators": coordinators, **told})  # fmt: skip
        ratios[f"round_10000_over_100_{size}"] = round(
            rounds[10_000, 100]["round_s"] / rounds[100, 100]["round_s"], 3
        )
        ratios[f"flat_over_tree_10000_{size}"] = round(
            rounds[10_000, 10_000]["round_s"] / rounds[10_000, 100]["round_s"], 2
        )
    for summed in (MOST_SUMMED,) if quick else (MOST_SUMMED, 10 * MOST_SUMMED):
        bits = noise_left(summed)
        rows.append(
            {
                "what": "noise",
                "sites": summed,
                "bits_left": bits,
                "load_average": round(os.getloadavg()[0], 1),
            }
        )
        ratios.setdefault("noise_bits_left", float(bits))  # of the largest sum that the plan allows
    return {"name": "scale", "rows": rows, "ratios": ratios}


def measure(size: int) -> Costs:
    """The costs of one vector of `size` parameters."""
    words, key, scheme = _words(size), he.Key(he.Scheme()), he.Scheme()
    small, large = (_protect_s(words, key, group) for group in _GROUPS)
    peer_s = max(0.0, (large - small) / (_GROUPS[1] - _GROUPS[0]))
    upload = key.encrypt(words)
    total = scheme.sum(len(words))
    total.add(total.parse(upload, where="bench"))
    fold_s = _seconds(lambda: total.add(total.parse(upload, where="bench")))
    summed = total.saved()
    add_s = _seconds(lambda: [scheme.ciphertext(part, he.SUM_BYTES, where="bench") for part in summed])
    packing = Packing()
    open_s = _seconds(lambda: packing.unpack(key.decrypt(summed, len(words), where="bench"), size))
    seeds = [os.urandom(masks.SEED_BYTES) for _ in range(4)]
    leftover_s = _seconds(lambda: masks.leftover_mask(len(words), seeds, {})) / len(seeds)
    return Costs(
        sum(map(len, upload)), sum(map(len, summed)), small - peer_s * (_GROUPS[0] - 1), peer_s,
        *_shares_s(_GROUPS[1]), _pass_s(b"".join(upload)), fold_s, add_s, leftover_s, open_s,
    )  # fmt: skip


def noise_left(count: int) -> int:
    """Sum that many real ciphertexts, see that the sum is exact, and tell the bits of noise it may still take."""
    scheme, key = he.Scheme(), he.Key(he.Scheme())
    generator = np.random.default_rng(0)
    total, expected = scheme.sum(he.DEGREE), np.zeros(he.DEGREE, dtype=np.uint64)
    for _ in range(count):
        words = generator.integers(0, MODULUS, he.DEGREE, dtype=np.uint64)
        total.add(total.parse(key.encrypt(words), where="bench"))
        expected = (expected + words) % np.uint64(MODULUS)
    (saved,) = total.saved()
    if not np.array_equal(key.decrypt([saved], he.DEGREE, where="bench"), expected):
        raise ArithmeticError(f"the sum of {count} ciphertexts isn't exact")
    return key.noise_budget_bits(saved)


def _words(size: int) -> Words:
    update = np.random.default_rng(0).normal(0, 0.01, size)
    return Packing().pack(np.rint(update * 2**18).astype(np.int64))


def _protect_s(words: Words, key: he.Key, group: int) -> float:
    seeds = {f"s{place:03d}": os.urandom(masks.SEED_BYTES) for place in range(1, group)}
    return _seconds(lambda: key.encrypt(masks.mask(words, "s000", seeds, os.urandom(masks.SEED_BYTES))))


def _shares_s(group: int) -> tuple[float, float]:
    """Splitting and joining a site's seeds, over the square of the group."""
    secret, need = os.urandom(masks.SEED_BYTES * group), masks.threshold_of(group, 1)
    split_s = _seconds(lambda: shamir.split(secret, need, group))
    shares = {
        place: part[: masks.SEED_BYTES]
        for place, part in list(shamir.split(secret, need, group).items())[:need]
    }
    return split_s / group**2, group * _seconds(lambda: shamir.join(shares)) / group**2


def _pass_s(upload: bytes) -> float:
    """What Flower does with a message of that size: take it apart and put its parts into their wire form."""
    become(COORDINATOR)
    content = wire.pack(wire.Header("bench"), vector=np.frombuffer(upload, np.uint8))

    def pass_on() -> None:
        message = Message(content, dst_node_id=2, message_type="train")
        get_object_tree(message)
        for part in get_all_nested_objects(message).values():
            part.deflate()

    return 2 * _seconds(pass_on)


def _seconds(work: Callable[[], Any]) -> float:
    """Median processor seconds of a piece of work."""
    found = []
    for _ in range(_TIMES):
        began = time.process_time()
        work()
        found.append(time.process_time() - began)
    return median(found)
