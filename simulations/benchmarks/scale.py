"""`hansa bench scale`: what 10,000 sites would cost under a tree of coordinators, from costs measured here.

Each step whose work grows with the number of sites is run and timed (mask, encrypt, share, forward, parse and add,
remove leftover masks, decrypt), and a sum of as many real ciphertexts as there would be sites is decrypted. Only their
combination is arithmetic: `Tree.round`. Invariant: nothing is assumed except the speed of links and of training.
`simulations/SCALE.md` discusses the result.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from statistics import median
from typing import Any

import numpy as np
import tenseal.sealapi as seal
from flwr.app import Message

from common.crypto import shamir
from common.crypto.fields import MODULUS, MOST_SUMMED, Packing, Words
from common.flower.simulation import COORDINATOR, become, take_apart
from common.he import bfv
from common.he.seal_files import SealFiles
from common.he.seal_schemes import SealScheme
from common.protocol import wire
from common.secagg import masks
from simulations.benchmarks.support.tree import Costs, Tree

_TIMES = 5
_GROUPS = (10, 40)


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
                rounds[sites, fanout] = seconds = tree.round(costs)
                rounded = {name: round(value, 2) for name, value in seconds.items()}
                coordinators = sum(tree.levels)
                rows.append({"what": "round", "parameters": size, "sites": sites, "fanout": fanout,
                             "coordinators": coordinators, **rounded})  # fmt: skip
        wider = replace(costs, upload_bytes=round(costs.upload_bytes * _wider_upload()))
        seconds = Tree(10_000, 100, most_summed=10_000).round(wider)
        rows.append({"what": "round", "parameters": size, "sites": 10_000, "fanout": 100, "coordinators": 101,
                     "scheme": WiderScheme.parameters, **{k: round(v, 2) for k, v in seconds.items()}})  # fmt: skip
        ratios[f"round_10000_over_100_{size}"] = round(
            rounds[10_000, 100]["round_s"] / rounds[100, 100]["round_s"], 3
        )
        ratios[f"flat_over_tree_10000_{size}"] = round(
            rounds[10_000, 10_000]["round_s"] / rounds[10_000, 100]["round_s"], 2
        )
    many = 10 * MOST_SUMMED
    for scheme, summed in [(bfv.Scheme(), MOST_SUMMED)] + (
        [] if quick else [(bfv.Scheme(), many), (WiderScheme(), many)]
    ):
        bits = noise_left(summed, scheme)
        rows.append({"what": "noise", "scheme": scheme.parameters, "sites": summed, "bits_left": bits,
                     "load_average": round(os.getloadavg()[0], 1)})  # fmt: skip
        ratios.setdefault("noise_bits_left", float(bits))  # of the largest sum that the plan allows
    return {"name": "scale", "rows": rows, "ratios": ratios}


def measure(size: int) -> Costs:
    """The costs of one vector of `size` parameters."""
    words, key, scheme = _words(size), bfv.Key(bfv.Scheme()), bfv.Scheme()
    small, large = (_protect_s(words, key, group) for group in _GROUPS)
    peer_s = max(0.0, (large - small) / (_GROUPS[1] - _GROUPS[0]))
    upload = key.encrypt(words)
    total = scheme.sum(len(words))
    total.add(total.parse(upload, where="bench"))
    fold_s = _seconds(lambda: total.add(total.parse(upload, where="bench")))
    summed = total.saved()
    add_s = _seconds(lambda: [scheme.ciphertext(part, bfv.SUM_BYTES, where="bench") for part in summed])
    packing = Packing()
    open_s = _seconds(lambda: packing.unpack(key.decrypt(summed, len(words), where="bench"), size))
    seeds = [os.urandom(masks.SEED_BYTES) for _ in range(4)]
    leftover_s = _seconds(lambda: masks.leftover_mask(len(words), seeds, {})) / len(seeds)
    return Costs(
        sum(map(len, upload)), sum(map(len, summed)), small - peer_s * (_GROUPS[0] - 1), peer_s,
        *_shares_s(_GROUPS[1]), _pass_s(b"".join(upload)), fold_s, add_s, leftover_s, open_s,
    )  # fmt: skip


class WiderScheme(bfv.Scheme):
    """An alternative scheme: a prime that is two bits longer, which SEAL allows at its 192-bit level."""

    parameters = f"BFV/{bfv.DEGREE}/[60]/{MODULUS}/symmetric-seeded, 192-bit level"

    def __init__(self) -> None:
        parameters = seal.EncryptionParameters(seal.SCHEME_TYPE.BFV)
        parameters.set_poly_modulus_degree(bfv.DEGREE)
        parameters.set_coeff_modulus(seal.CoeffModulus.Create(bfv.DEGREE, [60]))
        parameters.set_plain_modulus(MODULUS)
        SealScheme.__init__(self, SealFiles(parameters, seal.SEC_LEVEL_TYPE.TC192))
        self.encoder = seal.BatchEncoder(self.context)


def _wider_upload() -> float:
    """How much longer the uploads of `WiderScheme` are."""
    wide, usual = (
        len(bfv.Key(scheme).encrypt(np.zeros(bfv.DEGREE, np.uint64))[0])
        for scheme in (WiderScheme(), bfv.Scheme())
    )
    return wide / usual


def noise_left(count: int, scheme: bfv.Scheme) -> int:
    """Sum so many real ciphertexts and check that the sum is exact; returns the bits of noise budget left."""
    key = bfv.Key(scheme)
    generator = np.random.default_rng(0)
    total, expected = scheme.sum(bfv.DEGREE), np.zeros(bfv.DEGREE, dtype=np.uint64)
    for _ in range(count):
        words = generator.integers(0, MODULUS, bfv.DEGREE, dtype=np.uint64)
        total.add(total.parse(key.encrypt(words), where="bench"))
        expected = (expected + words) % np.uint64(MODULUS)
    (saved,) = total.saved()
    if not np.array_equal(key.decrypt([saved], bfv.DEGREE, where="bench"), expected):
        raise ArithmeticError(f"the sum of {count} ciphertexts isn't exact")
    return key.noise_budget_bits(saved)


def _words(size: int) -> Words:
    update = np.random.default_rng(0).normal(0, 0.01, size)
    return Packing().pack(np.rint(update * 2**18).astype(np.int64))


def _protect_s(words: Words, key: bfv.Key, group: int) -> float:
    seeds = {f"s{place:03d}": os.urandom(masks.SEED_BYTES) for place in range(1, group)}
    return _seconds(lambda: key.encrypt(masks.mask(words, "s000", seeds, os.urandom(masks.SEED_BYTES))))


def _shares_s(group: int) -> tuple[float, float]:
    """Seconds to split and to join a site's seeds, divided by the square of the group's size."""
    secret, need = os.urandom(masks.SEED_BYTES * group), masks.threshold_of(group, 1)
    split_s = _seconds(lambda: shamir.split(secret, need, group))
    shares = {
        place: part[: masks.SEED_BYTES]
        for place, part in list(shamir.split(secret, need, group).items())[:need]
    }
    return split_s / group**2, group * _seconds(lambda: shamir.join(shares)) / group**2


def _pass_s(upload: bytes) -> float:
    """Seconds of Flower's work on a message of that size: take it apart and serialise its parts."""
    become(COORDINATOR)
    content = wire.pack(wire.Header("bench"), vector=np.frombuffer(upload, np.uint8))

    def pass_on() -> None:
        take_apart(Message(content, dst_node_id=2, message_type="train"))

    return 2 * _seconds(pass_on)


def _seconds(work: Callable[[], Any]) -> float:
    """Median processor seconds of a piece of work."""
    durations = []
    for _ in range(_TIMES):
        began = time.process_time()
        work()
        durations.append(time.process_time() - began)
    return median(durations)
