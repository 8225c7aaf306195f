"""Key files: standard, locked, private; passphrases from the three sources and nowhere else."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto import pkcs8
from common.crypto.keys import PassphraseSource, PublicRole, RoleKey, lock, unlock
from common.errors import ConfigError, HansaError, InputError

PHRASE = b"correct horse battery"


@pytest.fixture(scope="module")
def owner() -> RoleKey:
    return RoleKey.generate("owner")


@pytest.fixture
def source(tmp_path: Path) -> PassphraseSource:
    path = tmp_path / "phrase"
    path.write_bytes(PHRASE + b"\n")
    path.chmod(0o600)
    return PassphraseSource.parse(f"file:{path}")


def test_a_locked_key_comes_back(tmp_path: Path, owner: RoleKey, source: PassphraseSource) -> None:
    path = tmp_path / "owner.key"
    lock(path, owner, PHRASE)
    assert path.stat().st_mode & 0o777 == 0o600
    assert unlock(path, source).public().as_dict() == owner.public().as_dict()
    assert "PRIVATE" not in repr(owner)
    with pytest.raises(InputError):
        lock(path, owner, PHRASE)
    path.chmod(0o640)
    with pytest.raises(InputError, match="other users"):
        unlock(path, source)


def test_a_wrong_passphrase_and_a_damaged_file_are_refused(
    tmp_path: Path, owner: RoleKey, source: PassphraseSource
) -> None:
    path = tmp_path / "owner.key"
    lock(path, owner, b"quite another phrase")
    with pytest.raises(InputError, match="unlocked"):
        unlock(path, source)
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(InputError, match="unlocked"):
        unlock(path, source)


def test_a_process_derives_a_key_once_and_still_asks_for_all_it_needs(
    tmp_path: Path, owner: RoleKey, source: PassphraseSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, derive, derived = tmp_path / "owner.key", pkcs8._derived, list[bytes]()

    def counted(passphrase: bytes, salt: bytes) -> bytes:
        derived.append(salt)
        return derive(passphrase, salt)

    lock(path, owner, PHRASE)
    monkeypatch.setattr(pkcs8, "_derived", counted)
    first = unlock(path, source)
    assert len(derived) == 1, "both keys of the file are under one derived key"
    assert unlock(path, source).public().as_dict() == first.public().as_dict()
    assert len(derived) == 1, "the second time is from memory"

    wrong = tmp_path / "wrong"
    wrong.write_bytes(PHRASE + b"!")
    wrong.chmod(0o600)
    with pytest.raises(InputError, match="unlocked"):
        unlock(path, PassphraseSource.parse(f"file:{wrong}"))
    path.unlink()
    other = RoleKey.generate("owner")
    lock(path, other, PHRASE)
    assert unlock(path, source).public().as_dict() == other.public().as_dict(), (
        "the file that lies there counts"
    )
    Path(source.value).unlink()
    with pytest.raises(InputError, match="passphrase"):
        unlock(path, source)
    path.unlink()
    with pytest.raises(InputError, match="read"):
        unlock(path, source)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl isn't installed")
def test_openssl_reads_the_file(tmp_path: Path, owner: RoleKey, source: PassphraseSource) -> None:
    lock(tmp_path / "owner.key", owner, PHRASE)
    command = [
        "openssl",
        "pkey",
        "-in",
        str(tmp_path / "owner.key"),
        "-passin",
        f"file:{source.value}",
        "-pubout",
    ]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert shown == owner.public().as_dict()["encryption"]


def test_a_passphrase_comes_from_a_descriptor_too() -> None:
    reading, writing = os.pipe()
    os.write(writing, PHRASE + b"\r\nrest")
    os.close(writing)
    for _ in range(2):  # a private round opens the vault again, when the pipe has nothing left
        assert PassphraseSource.parse(f"fd:{reading}").read("") == PHRASE
    os.close(reading)


def test_a_passphrase_as_an_argument_is_refused_and_not_repeated() -> None:
    with pytest.raises(ConfigError) as fault:
        PassphraseSource.parse("hunter2 hunter2")
    assert "hunter2" not in str(fault.value)


@pytest.mark.parametrize("data", [{}, {"encryption": "x", "signing": "y"}, {"encryption": 1, "signing": 2}])
def test_damaged_public_keys_are_refused(data: dict[str, str]) -> None:
    with pytest.raises(HansaError):
        PublicRole.from_dict("owner", data)


def test_the_library_reads_what_is_written_and_no_two_blocks_are_alike() -> None:
    secrets = [b"first" * 30, b"second"]
    made = pkcs8.encrypt(secrets, PHRASE)
    assert pkcs8.decrypt(made, PHRASE) == secrets
    key = RoleKey.generate("owner").signing
    plain = key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    one, two = pkcs8.encrypt([plain, plain], PHRASE)
    assert one[-len(plain) :] != two[-len(plain) :], "each block has an IV of its own"
    for block in (one, two):
        read = serialization.load_der_private_key(block, PHRASE)
        assert isinstance(read, Ed25519PrivateKey)
        assert read.private_bytes_raw() == key.private_bytes_raw()


def test_blocks_of_another_form_are_refused_before_a_passphrase_is_stretched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (block,) = pkcs8.encrypt([bytes(48)], PHRASE)
    monkeypatch.setattr(pkcs8, "_derived", lambda passphrase, salt: pytest.fail("it was stretched"))
    weaker = block.replace(b"\x02\x02\x40\x00", b"\x02\x02\x00\x02")
    assert weaker != block
    wrong = [block[:cut] for cut in range(len(block))] + [block + b"\0", weaker, b"\x31" + block[1:]]
    for each in wrong:
        with pytest.raises(ValueError, match=r"element|deriving"):
            pkcs8.decrypt([each], PHRASE)
