"""Wycheproof-type vectors: primitives and envelope give known answers and refuse every damaged input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.header import EnvelopeError, EnvelopeHeader, Slot, fingerprint, unwrap

HERE = Path(__file__).parent / "wycheproof"
GCM = json.loads((HERE / "aes_gcm_256.json").read_text())
OAEP = json.loads((HERE / "rsa_oaep_sha256.json").read_text())
OBJECT_ID = bytes(range(16))


def _hex(test: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(test[name]) for name in names]


@pytest.mark.parametrize("test", GCM["testGroups"][0]["tests"], ids=lambda test: test["tcId"])
def test_aes_gcm(test: dict[str, Any]) -> None:
    key, iv, aad, msg, ct, tag = _hex(test, "key", "iv", "aad", "msg", "ct", "tag")
    cipher = AESGCM(key)
    if test["result"] == "invalid":
        with pytest.raises((InvalidTag, ValueError)):
            cipher.decrypt(iv, ct + tag, aad)
        with pytest.raises((InvalidTag, ValueError)):
            cipher.decrypt_into(iv, ct + tag, aad, bytearray(max(0, len(ct + tag) - 16)))
        return
    assert cipher.decrypt(iv, ct + tag, aad) == msg
    assert cipher.encrypt(iv, msg, aad) == ct + tag
    # The two calls that segments are sealed and opened with.
    sealed, opened = bytearray(len(msg) + 16), bytearray(len(msg))
    cipher.encrypt_into(iv, msg, aad, sealed)
    cipher.decrypt_into(iv, bytes(sealed), aad, opened)
    assert (bytes(sealed), bytes(opened)) == (ct + tag, msg)


def _private(group: dict[str, Any]) -> RSAPrivateKey:
    n, e, d, p, q = (int(group["privateKey"][name], 16) for name in "nedpq")
    parts = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *parts, rsa.RSAPublicNumbers(e, n)).private_key()


@pytest.mark.parametrize("number", range(len(OAEP["testGroups"])))
def test_rsa_oaep(number: int) -> None:
    group = OAEP["testGroups"][number]
    key = _private(group)
    for test in group["tests"]:
        msg, ct, label = _hex(test, "msg", "ct", "label")
        oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), label)
        if test["result"] == "valid":
            assert key.decrypt(ct, oaep) == msg, test["comment"]
        else:
            with pytest.raises(ValueError):
                key.decrypt(ct, oaep)


def test_a_slot_of_each_kind_of_damage_is_refused_with_the_one_error() -> None:
    group = OAEP["testGroups"][-1]
    key = _private(group)
    mine, seen = fingerprint(key.public_key()), {"valid": 0, "invalid": 0}
    for test in group["tests"]:
        msg, ct, label = _hex(test, "msg", "ct", "label")
        if label != b"hansa envelope 1" + OBJECT_ID:
            continue
        # Whoever forges a slot doesn't know the data key; here the MAC is right wherever the message is the key.
        raw = EnvelopeHeader(OBJECT_ID, (Slot("trainer", mine, ct),)).sealed(msg.ljust(32, b"\0"), b"x")
        if test["result"] == "valid" and len(msg) == 32:
            assert unwrap(raw, key, mine, b"x")[1] == msg
        else:
            with pytest.raises(EnvelopeError):
                unwrap(raw, key, mine, b"x")
        seen[test["result"]] += 1
    assert seen["invalid"] >= 30


def test_the_corpus_is_whole() -> None:
    tests = GCM["testGroups"][0]["tests"]
    assert GCM["numberOfTests"] == len(tests) >= 150
    assert sum(test["result"] == "invalid" for test in tests) >= 70
    assert OAEP["numberOfTests"] == sum(len(group["tests"]) for group in OAEP["testGroups"]) >= 55
