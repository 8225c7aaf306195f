"""The whole way of a sum, from whole numbers to whole numbers: exact for every cohort, size and pattern of dropouts."""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto.fields import MODULUS, Packing, Words
from common.he import bfv
from common.protocol.wire import Layout
from common.secagg import masks
from common.secagg.pipeline import Parcel, Terms, open_steps, open_sum, send
from common.secagg.protocol import Attempt
from common.settings.load import load_config

PACKINGS = [Packing(22, 2), Packing(14, 3)]
T = np.uint64(MODULUS)


def _pairs(names: Sequence[str]) -> dict[tuple[str, str], bytes]:
    found = {}
    for a, b in itertools.combinations(names, 2):
        found[a, b] = found[b, a] = os.urandom(masks.SEED_BYTES)
    return found


def _encrypted_sum(words: dict[str, Words], gone: set[str], key: bfv.Key) -> tuple[Words, int]:
    """Mask, encrypt, sum the survivors, take out what didn't cancel, decrypt; and the noise that is left room for."""
    names, scheme = sorted(words), bfv.scheme()
    pairs, own = _pairs(names), {name: os.urandom(masks.SEED_BYTES) for name in names}
    alive, count = [name for name in names if name not in gone], len(words[names[0]])
    total = scheme.sum(count)
    for name in alive:
        seeds = {peer: pairs[name, peer] for peer in names if peer != name}
        hidden = masks.mask(words[name], name, seeds, own[name])
        total.add(total.parse(key.encrypt(hidden), where="test"))
    left = {(a, b): pairs[a, b] for a in alive for b in gone}
    total.subtract(masks.leftover_mask(count, [own[name] for name in alive], left))
    parts = total.saved()
    return key.decrypt(parts, count, where="test"), min(key.noise_budget_bits(part) for part in parts)


def _check(sites: int, size: int, gone: set[int], packing: Packing, seed: int) -> None:
    rng, names = np.random.default_rng(seed), [f"s{place:02d}" for place in range(sites)]
    most = (packing.limit - sites) // sites
    whole = {name: rng.integers(-most, most, size, endpoint=True) for name in names}
    words = {name: packing.pack(value) for name, value in whole.items()}
    key = bfv.Key(bfv.scheme())
    found, bits = _encrypted_sum(words, {names[place] for place in gone}, key)
    alive = [name for place, name in enumerate(names) if place not in gone]
    assert np.array_equal(packing.unpack(found, size), sum(whole[name] for name in alive))
    assert bits >= 4


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 64), st.integers(1, 9000), st.sampled_from(PACKINGS), st.integers(0, 99), st.data())
def test_sums_are_exact_for_any_cohort_and_dropouts(
    sites: int, size: int, packing: Packing, seed: int, data: st.DataObject
) -> None:
    alive = data.draw(st.integers(masks.threshold_of(sites, 1), sites))
    gone = data.draw(st.sets(st.integers(0, sites - 1), min_size=sites - alive, max_size=sites - alive))
    _check(sites, size, gone, packing, seed)


@pytest.mark.parametrize("sites", [2, 3, 4, 5])
def test_every_pattern_of_dropouts_that_keeps_the_quorum(sites: int) -> None:
    least = masks.threshold_of(sites, 1)
    for number in range(sites - least + 1):
        for gone in itertools.combinations(range(sites), number):
            _check(sites, 50, set(gone), PACKINGS[0], number)


def test_the_largest_cohort_keeps_four_bits_of_noise() -> None:
    _check(64, 2 * bfv.DEGREE, {3, 40}, PACKINGS[0], 0)


@pytest.mark.slow
@pytest.mark.parametrize(("sites", "size"), [(4, 1_000_000), (4, 5_000_000), (64, 100_000)])
def test_sums_of_real_sizes_are_exact(sites: int, size: int) -> None:
    _check(sites, size, {1}, PACKINGS[0], 0)


@settings(deadline=None, max_examples=25)
@given(
    st.sampled_from(["masked", "he", "he+masked", "ckks"]), st.integers(2, 12), st.integers(1, 400), st.data()
)
def test_open_steps_in_reverse_give_the_survivors_mean(
    protection: str, sites: int, size: int, data: st.DataObject
) -> None:
    release = "sites" if protection == "ckks" else "coordinator"
    rounds = load_config({"rounds": {"protection": protection, "release": release}}).rounds
    layout, names = Layout.of({"a": (size,)}), [f"s{place:02d}" for place in range(sites)]
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    attempt = Attempt(
        1, "aa", {name: float(weight) for name, weight in zip(names, rng.uniform(1, 30, sites), strict=True)}
    )
    survivors = sorted(data.draw(st.sets(st.sampled_from(names), min_size=1)))
    # Within the contract's norm, so that clipping changes nothing here.
    updates = rng.uniform(-0.1, 0.1, (sites, size)).astype(np.float32)
    sent = [
        send(open_steps(Terms(rounds, layout, attempt, name)), Parcel(updates[names.index(name)]))
        for name in survivors
    ]
    total = sum(sent[1:], start=sent[0]) if protection == "ckks" else np.stack(sent).sum(0) % T
    mean = open_sum(open_steps(Terms(rounds, layout, attempt)), Parcel(total, survivors=survivors))
    rows = [names.index(name) for name in survivors]
    truth = np.average(updates[rows], axis=0, weights=[attempt.weights[name] for name in survivors])
    tolerance = (
        1e-7 if protection == "ckks" else (sites + 1) / attempt.scale(rounds) / attempt.share(survivors)
    )
    np.testing.assert_allclose(mean, truth, atol=tolerance)
