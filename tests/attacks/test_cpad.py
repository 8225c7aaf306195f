"""Key recovery from a decrypted sum: it works on CKKS where the rule is switched off, and not on BFV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.crypto.container import open_container
from common.crypto.fields import MODULUS
from common.he import bfv, ckks
from common.secagg.pipeline import Parcel, open_sum
from common.secagg.protocol import Attempt, GroupSum, upload_facts
from simulations.attacks import cpad
from tests.faults.leagues import SITES, make_keys, secagg_sites

SIZE = 2 * 4096


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), SITES[:4])


def test_ckks_gives_its_key_and_each_upload_to_who_has_the_ciphertexts_and_the_sum(
    keys: Path, tmp_path: Path
) -> None:
    """The rule switched off: one site hands the coordinator what it decrypted."""
    sites = secagg_sites(tmp_path, keys, 4, SIZE, protection="ckks", release="sites")
    rounds, layout = sites[0]._config.rounds, sites[0]._trainer.layout()
    attempt, scheme = Attempt(1, "aa", dict.fromkeys(SITES[:4], 1.0)), ckks.Scheme()
    rng = np.random.default_rng(0)
    updates = [rng.normal(0, 0.01, SIZE).astype(np.float32) for _ in sites]
    uploads, total = [], scheme.sum(SIZE)
    for site, update in zip(sites, updates, strict=True):
        facts = upload_facts(site._run, rounds, layout, attempt, site.name)
        signer = bytes.fromhex(site.offer()["ed25519"])
        uploads.append(open_container(site.protect(update, attempt), facts, signer, where="attack"))
        total.add(total.parse(uploads[-1], where="attack"))
    parts = total.saved()
    decrypted = sites[0].he_key(1).decrypt(parts, SIZE, where="site")

    secret = cpad.recover_ckks_key(scheme, parts, decrypted)
    assert secret is not None
    for upload, update in zip(uploads, updates, strict=True):
        assert np.abs(4 * cpad.read_with_key(scheme, secret, upload) - update).max() < 1e-7
    # With the rule on, the coordinator has figures of three digits at most; and a sum in float32 isn't enough here.
    for coarse in (np.round(decrypted, 3), decrypted.astype(np.float32).astype(np.float64)):
        assert cpad.recover_ckks_key(scheme, parts, coarse) is None
    # The site itself still reads the mean as it should.
    opened = open_sum(sites[0]._steps(attempt), Parcel(list(parts), survivors=SITES[:4]))
    assert np.abs(opened - np.mean(updates, axis=0)).max() < 1e-7
    assert GroupSum(attempt, SITES[:4], parts).survivors == SITES[:4]


def test_bfv_gives_nothing_to_the_same_computation() -> None:
    scheme, rng = bfv.Scheme(), np.random.default_rng(0)
    key, total = scheme.key(), scheme.sum(bfv.DEGREE)
    for _ in range(4):
        words = rng.integers(0, MODULUS, bfv.DEGREE, dtype=np.uint64)
        total.add(total.parse(key.encrypt(words), where="attack"))
    [part] = total.saved()
    decrypted = key.decrypt([part], bfv.DEGREE, where="site")
    assert cpad.recover_bfv_key(scheme, part, decrypted) is None
    # Not for a slip in the algebra: whoever knew the noise, which no decryption tells, would have the key.
    noise = cpad.bfv_noise(scheme, part, decrypted, key.secret())
    assert 0 < max(abs(int(value)) for value in noise) < 8192
    assert cpad.recover_bfv_key(scheme, part, decrypted, noise) is not None
