"""Fields, shares, masks and ciphertexts: sums are exact to the integer, whatever drops."""

from __future__ import annotations

import os

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto import shamir
from common.crypto.container import MAGIC, open_container, sign_container
from common.crypto.fields import MODULUS, Packing, dequantise, quantise
from common.errors import ConfigError, QuorumError, WireError
from common.he import bfv
from common.secagg import masks

PACKINGS = [Packing(22, 2), Packing(14, 3)]


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 64), st.integers(1, 2000), st.integers(0, 99), st.sampled_from(PACKINGS), st.booleans())
def test_a_sum_of_packed_words_is_the_sum_of_the_integers(
    sites: int, size: int, seed: int, packing: Packing, stochastic: bool
) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.uniform(0.1, 30, sites)
    shares = weights / weights.sum()
    scale = packing.scale(0.5, sites)
    updates = rng.choice(np.array([-9, -0.5, -0.1, 0, 0.3, 0.5, 9]), (sites, size)).astype(np.float32)
    chance = rng if stochastic else None
    units = [quantise(u, s, 0.5, scale, chance) for u, s in zip(updates, shares, strict=True)]
    total = np.stack([packing.pack(q) for q in units]).sum(0) % np.uint64(MODULUS)
    found = packing.unpack(total, size)
    assert np.array_equal(found, sum(units))
    truth = np.average(np.clip(updates, -0.5, 0.5), axis=0, weights=weights)
    np.testing.assert_allclose(dequantise(found, 1.0, scale), truth, atol=(sites + 1) / scale)


def test_fields_refuse_what_does_not_fit() -> None:
    with pytest.raises(ConfigError, match="don't fit a word"):
        Packing(23, 2)
    with pytest.raises(ConfigError, match="don't fit fields"):
        Packing(6, 7).scale(1.0, 20)
    with pytest.raises(WireError, match="outside"):
        quantise(np.zeros(2, np.float32), 1.5, 1.0, 10.0)
    with pytest.raises(WireError, match="NaN"):
        quantise(np.full(1, np.nan, np.float32), 0.5, 1.0, 10.0)
    with pytest.raises(WireError, match="out of range"):
        Packing(14, 3).unpack(np.array([1 << 43], dtype=np.uint64) - np.uint64(9000), 3)


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=200), st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, threshold: int, data: st.DataObject) -> None:
    count = data.draw(st.integers(threshold, 20))
    shares = shamir.split(secret, threshold, count)
    some = data.draw(st.permutations(sorted(shares)))[:threshold]
    assert shamir.join({place: shares[place] for place in some}) == secret


def test_fewer_shares_than_the_threshold_give_nothing() -> None:
    secret = bytes(64)
    found = [shamir.join({1: s[1], 2: s[2]}) for s in (shamir.split(secret, 3, 4) for _ in range(20))]
    assert secret not in found


def _seeds(names: list[str]) -> dict[tuple[str, str], bytes]:
    pairs = {frozenset((a, b)): os.urandom(16) for a in names for b in names if a < b}
    return {(a, b): pairs[frozenset((a, b))] for a in names for b in names if a != b}


@settings(deadline=None, max_examples=25)
@given(st.integers(2, 12), st.integers(1, 300), st.data())
def test_masks_cancel_under_every_pattern_of_dropouts(sites: int, size: int, data: st.DataObject) -> None:
    names = [f"s{i:02d}" for i in range(sites)]
    gone = data.draw(st.sets(st.sampled_from(names), max_size=sites - 1))
    alive = [name for name in names if name not in gone]
    seeds, own = _seeds(names), {name: os.urandom(16) for name in names}
    words = {
        name: np.random.default_rng(i).integers(0, MODULUS, size, dtype=np.uint64)
        for i, name in enumerate(names)
    }
    total = np.zeros(size, dtype=np.uint64)
    for name in alive:
        peers = {peer: seeds[name, peer] for peer in names if peer != name}
        total = (total + masks.mask(words[name], name, peers, own[name])) % np.uint64(MODULUS)
    left = {(a, b): seeds[a, b] for a in alive for b in gone}
    masked = masks.leftover_mask(size, [own[name] for name in alive], left)
    assert np.array_equal(total, (sum(words[name] for name in alive) + masked) % np.uint64(MODULUS))


def test_mask_words_are_even_over_the_modulus() -> None:
    words = masks.expand(bytes(16), 200_000)
    assert int(words.max()) < MODULUS
    counts = np.bincount((words >> np.uint64(40)).astype(np.int64), minlength=16)
    assert np.abs(counts / 12_500 - 1).max() < 0.05
    assert np.array_equal(masks.expand(bytes(16), 10), words[:10])


@given(st.integers(2, 64), st.integers(0, 8))
def test_two_survivor_sets_never_both_reach_the_threshold(sites: int, colluding: int) -> None:
    need = masks.threshold_of(sites, colluding)
    assert 2 * need > sites + colluding or need == sites
    with pytest.raises(QuorumError, match="masks open from"):
        masks.require_survivors(need - 1, sites, colluding, "test")


@pytest.mark.parametrize("sites", [2, 64])
def test_encrypted_sums_are_exact_with_bits_of_noise_to_spare(sites: int) -> None:
    scheme = bfv.Scheme()
    key = bfv.Key(scheme)
    rng = np.random.default_rng(1)
    count = 5000
    total, truth = scheme.sum(count), np.zeros(count, dtype=np.uint64)
    for _ in range(sites):
        words = rng.integers(0, MODULUS, count, dtype=np.uint64)
        total.add(total.parse(key.encrypt(words), where="test"))
        truth = (truth + words) % np.uint64(MODULUS)
    known = rng.integers(0, MODULUS, count, dtype=np.uint64)
    total.subtract(known)
    parts = total.saved()
    assert key.noise_budget_bits(parts[0]) >= 4
    expected = (truth + np.uint64(MODULUS) - known) % np.uint64(MODULUS)
    assert np.array_equal(key.decrypt(parts, count, where="test"), expected)
    again = bfv.Key(scheme, key.secret())
    assert np.array_equal(again.decrypt(parts, count, where="test"), expected)


def test_a_foreign_key_and_damaged_ciphertexts_are_refused() -> None:
    scheme = bfv.Scheme()
    key = bfv.Key(scheme)
    fresh = key.encrypt(np.arange(10, dtype=np.uint64))[0]
    total = scheme.sum(10)
    total.add(total.parse([fresh], where="test"))
    parts = total.saved()
    with pytest.raises(WireError, match="can't be decrypted"):
        bfv.Key(scheme).decrypt(parts, 10, where="test")
    rng = np.random.default_rng(0)
    for data in [
        b"",
        fresh[:100],
        fresh[:-1],
        fresh + b"x",
        parts[0],
        fresh[:8] + bytes(8) + fresh[16:],
        rng.bytes(31_957),
    ]:
        with pytest.raises(WireError):
            total.parse([data], where="test")
    with pytest.raises(WireError, match="can't hold"):
        total.parse([fresh, fresh], where="test")


def test_a_container_opens_only_as_it_was_sealed() -> None:
    key = Ed25519PrivateKey.generate()
    signer = key.public_key().public_bytes_raw()
    facts: dict[str, str | int] = {"run": "r", "round": 3}
    data = sign_container(facts, [b"one", b"", b"three"], key)
    assert data[:6] == MAGIC
    assert open_container(data, facts, signer, where="t") == [b"one", b"", b"three"]
    for place in range(0, len(data), 7):
        bad = bytearray(data)
        bad[place] ^= 1
        with pytest.raises(WireError):
            open_container(bytes(bad), facts, signer, where="t")
    others: list[dict[str, str | int]] = [
        {"run": "r", "round": 4},
        {"run": "r"},
        {"run": "r", "round": 3, "epoch": 1},
        {"run": "r", "round": True},
    ]
    for other in others:
        with pytest.raises(WireError, match="another"):
            open_container(data, other, signer, where="t")
    with pytest.raises(WireError, match="signature"):
        open_container(data, facts, Ed25519PrivateKey.generate().public_key().public_bytes_raw(), where="t")
