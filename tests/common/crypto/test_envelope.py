"""A sealed file comes back whole or is refused with the one error, whatever was done to it."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from common.crypto.envelope import EnvelopeError, open_sealed, reslot, seal, slots_of
from common.crypto.header import HEADER_BYTES
from common.crypto.segments import SEGMENT_BYTES, TAG_BYTES, _cut
from common.errors import ConfigError

STEP = SEGMENT_BYTES + TAG_BYTES
CONTEXT = b"reviews"


@pytest.fixture(scope="module")
def key() -> RSAPrivateKey:
    return rsa.generate_private_key(65537, 3072)


def refused(path: Path, key: RSAPrivateKey, context: bytes = CONTEXT) -> bool:
    """Whether reading fails, with the very same words as any other failure."""
    try:
        with open_sealed(path, key, context=context) as sealed:
            sealed.read()
    except EnvelopeError as fault:
        return str(fault) == str(EnvelopeError())
    return False


def sealed_file(path: Path, key: RSAPrivateKey, size: int) -> bytes:
    seal(path, os.urandom(size), recipients={"owner": key.public_key()}, context=CONTEXT)
    return path.read_bytes()


@pytest.mark.parametrize(
    "size", [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 17 * SEGMENT_BYTES + 5]
)
def test_every_way_of_reading_gives_the_same(tmp_path: Path, key: RSAPrivateKey, size: int) -> None:
    data, path = os.urandom(size), tmp_path / "x.hve"
    written = seal(path, data, recipients={"owner": key.public_key()}, context=CONTEXT)
    assert written.size == size
    with open_sealed(path, key, context=CONTEXT) as sealed:
        assert sealed.written == written
        assert sealed.read() == data == b"".join(bytes(part) for part in sealed.stream())
        for start, end in ((0, size), (size // 3, size // 2), (max(0, size - 2), size), (size, size)):
            assert sealed.range(start, end - start) == data[start:end]
        with pytest.raises(EnvelopeError):
            sealed.range(size, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 3 * SEGMENT_BYTES), max_size=6))
def test_any_division_into_chunks_gives_the_same_segments(sizes: list[int]) -> None:
    chunks = [os.urandom(size) for size in sizes]
    parts = [(bytes(part), last) for part, last in _cut(chunks)]
    assert b"".join(part for part, _ in parts) == b"".join(chunks)
    assert [last for _, last in parts] == [False] * (len(parts) - 1) + [True]
    assert all(len(part) == SEGMENT_BYTES for part, last in parts if not last)
    assert len(parts) == 1 or parts[-1][0]


def tampered(whole: bytes, other: bytes) -> Iterator[tuple[str, bytes]]:
    head, body = whole[:HEADER_BYTES], whole[HEADER_BYTES:]
    parts = [body[at : at + STEP] for at in range(0, len(body), STEP)]
    for cut in range(len(parts)):
        for edge in (-1, 0, 1, TAG_BYTES):
            if (at := cut * STEP + edge) >= 0:
                yield f"cut at {cut}{edge:+}", head + body[:at]
    yield "cut header", head[:-1]
    yield "empty", b""
    yield "longer", whole + b"\0"
    yield "another last segment", whole + parts[-1]
    yield "swap", head + b"".join([parts[1], parts[0], *parts[2:]])
    yield "duplicate", head + b"".join([parts[0], *parts])
    yield "drop", head + b"".join([parts[0], *parts[2:]])
    yield "splice segments", head + b"".join([other[HEADER_BYTES : HEADER_BYTES + STEP], *parts[1:]])
    yield "splice header", other[:HEADER_BYTES] + body
    for at in (0, 8, 9, 10, 26, 42, 74, 76, 500, 4000, 4063, 4064, 4095):
        yield f"header byte {at}", whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]


def test_the_tamper_corpus_is_refused_with_one_error(tmp_path: Path, key: RSAPrivateKey) -> None:
    path = tmp_path / "x.hve"
    whole, other = (sealed_file(path, key, 3 * SEGMENT_BYTES + 100) for _ in range(2))
    for what, data in tampered(whole, other):
        path.write_bytes(data)
        assert refused(path, key), what
    path.write_bytes(whole)
    assert not refused(path, key)
    assert refused(path, key, b"events")
    assert refused(path, rsa.generate_private_key(65537, 3072))
    assert refused(tmp_path / "missing", key)


def flips_are_refused(folder: Path, key: RSAPrivateKey, count: int) -> None:
    path, draw = folder / "x.hve", random.Random(1)
    whole = sealed_file(path, key, 1000)
    for _ in range(count):
        bit = draw.randrange(8 * len(whole))
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert refused(path, key), bit


def test_500_random_bit_flips_are_refused(tmp_path: Path, key: RSAPrivateKey) -> None:
    flips_are_refused(tmp_path, key, 500)


@pytest.mark.slow
def test_10000_random_bit_flips_are_refused(tmp_path: Path, key: RSAPrivateKey) -> None:
    flips_are_refused(tmp_path, key, 10_000)


def test_new_slots_leave_the_segments_alone(tmp_path: Path, key: RSAPrivateKey) -> None:
    path, new = tmp_path / "x.hve", rsa.generate_private_key(65537, 3072)
    whole = sealed_file(path, key, 200_000)
    reslot(path, key, {"trainer": new.public_key()}, context=CONTEXT)
    assert path.read_bytes()[HEADER_BYTES:] == whole[HEADER_BYTES:]
    assert set(slots_of(path)) == {"trainer"}
    assert refused(path, key)
    assert not refused(path, new)


def test_a_crash_amid_a_change_of_slots_loses_nothing(tmp_path: Path, key: RSAPrivateKey) -> None:
    path = tmp_path / "x.hve"
    whole = sealed_file(path, key, 1000)
    path.with_name("x.hve.head").write_bytes(whole[:HEADER_BYTES])
    path.write_bytes(os.urandom(2000) + whole[2000:])
    assert not refused(path, key)


def test_a_source_that_fails_leaves_nothing_behind(tmp_path: Path, key: RSAPrivateKey) -> None:
    def broken() -> Iterator[bytes]:
        yield b"x" * 300_000
        raise OSError("the source broke")

    with pytest.raises(OSError, match="broke"):
        seal(tmp_path / "x.hve", broken(), recipients={"owner": key.public_key()}, context=CONTEXT)
    assert list(tmp_path.iterdir()) == []


def test_weak_keys_and_bad_roles_are_refused(tmp_path: Path, key: RSAPrivateKey) -> None:
    weak = rsa.generate_private_key(65537, 2048).public_key()
    for recipients in (
        {},
        {"owner": weak},
        {"x" * 17: key.public_key()},
        {f"r{i}": key.public_key() for i in range(10)},
    ):
        with pytest.raises(ConfigError):
            seal(tmp_path / "x.hve", b"", recipients=recipients, context=CONTEXT)


def test_the_cipher_is_the_published_one() -> None:
    """Test cases 13 and 14 of the GCM specification (McGrew and Viega), AES-256 with a zero key."""
    cipher, out = AESGCM(bytes(32)), bytearray(32)
    cipher.encrypt_into(bytes(12), bytes(16), None, out)
    assert out.hex() == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"
    assert AESGCM(bytes(32)).encrypt(bytes(12), b"", None).hex() == "530f8afbc74536b9a963b4f1c4cb738b"
    out[0] ^= 1
    with pytest.raises(InvalidTag):
        cipher.decrypt_into(bytes(12), bytes(out), None, bytearray(16))
