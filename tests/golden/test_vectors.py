"""The written format is the format: an independent reader and the product read the same checked-in files alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from common.crypto.envelope import open_sealed
from tests.golden.reader import read

HERE = Path(__file__).parent
VECTORS = json.loads((HERE / "vectors.json").read_text())


@pytest.fixture(scope="module")
def private() -> RSAPrivateKey:
    """A key for tests only: it lies here in clear and protects nothing."""
    key = serialization.load_pem_private_key((HERE / "TEST-ONLY-trainer.pem").read_bytes(), None)
    assert isinstance(key, RSAPrivateKey)
    return key


@pytest.mark.parametrize("name", VECTORS)
def test_golden_files_are_read_alike(name: str, private: RSAPrivateKey) -> None:
    path, wanted = HERE / f"{name}.hve", VECTORS[name]
    associated = wanted["associated"].encode()
    theirs = read(path.read_bytes(), private, associated)
    with open_sealed(path, private, context=associated) as sealed:
        assert sealed.read() == theirs
    assert (len(theirs), hashlib.sha256(theirs).hexdigest()) == (wanted["bytes"], wanted["sha256"])
