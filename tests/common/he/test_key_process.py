"""A key that another process uses gives what the key itself gives, and a process that breaks costs one question."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest

from common.errors import ConfigError, WireError
from common.he.key_process import KeyApart, KeyProcess, key_of
from common.he.schemes import scheme


@pytest.mark.parametrize("name", ["bfv", "bfv-public", "ckks/8192/60-40-40/40"])
def test_another_process_encrypts_and_decrypts_what_the_key_itself_does(name: str) -> None:
    found = scheme(name)
    own = found.key()
    apart = KeyApart(KeyProcess(name), own.secret())
    count = 3 * found.slots + 5
    values = np.arange(count, dtype=np.uint64) if found.exact else np.linspace(-1, 1, count)
    for writer, reader in ((apart, own), (own, apart)):
        total = found.sum(count)
        total.add(total.parse(writer.encrypt(values), where="test"))
        opened = reader.decrypt(total.saved(), count, where="test")
        np.testing.assert_allclose(opened.astype(float), values.astype(float), atol=1e-6)
    with pytest.raises(WireError, match="can't hold"):
        apart.decrypt([b""], count, where="test")


def test_a_process_that_breaks_costs_one_question() -> None:
    found, process = scheme("bfv"), KeyProcess("bfv")
    key = KeyApart(process)
    words = np.arange(100, dtype=np.uint64)
    total = found.sum(100)
    total.add(total.parse(key.encrypt(words), where="test"))
    parts = total.saved()
    pid = process._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WireError, match="broke"):
        key.decrypt(parts, 100, where="test")
    assert key.decrypt(parts, 100, where="test").tolist() == words.tolist()


def test_a_scheme_that_wants_it_has_its_keys_apart() -> None:
    assert isinstance(key_of("bfv-public"), KeyApart)
    assert not isinstance(key_of("bfv"), KeyApart)
    with pytest.raises(ConfigError, match="no encryption scheme"):
        scheme("rot13")
    with pytest.raises(ConfigError, match="no parameters of CKKS"):
        scheme("ckks/8192")
