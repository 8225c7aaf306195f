"""The plan says what each protection shows, and its bytes are those that a protected run moves."""

from __future__ import annotations

import numpy as np
import pytest

from common.config import load_config
from common.crypto import he
from common.crypto.fields import Packing
from simulations.plan import bytes_per_site, what_is_seen


@pytest.mark.parametrize("protection", ["plain", "masked", "he", "he+masked"])
def test_only_plain_shows_updates(protection: str) -> None:
    assert ("every update" in what_is_seen(protection)) == (protection == "plain")


def test_bytes_of_ciphertexts_are_those_of_real_ones() -> None:
    rounds, size = load_config({"rounds": {"protection": "he+masked"}}).rounds, 20_000
    scheme = he.Scheme()
    words = np.zeros(Packing().words(size), dtype=np.uint64)
    parts = scheme.key().encrypt(words)
    total = scheme.sum(len(words))
    total.add(total.parse(parts, where="t"))
    up, down = bytes_per_site(rounds, size)
    assert up == pytest.approx(sum(map(len, parts)), rel=0.07)
    assert down == pytest.approx(sum(map(len, total.saved())), rel=0.07)
