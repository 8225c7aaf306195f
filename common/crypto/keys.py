"""Role keys: an RSA pair that opens objects and an Ed25519 pair that signs, in one passphrase-protected file.

Invariant: a private key lies on disk only as PKCS#8 under a passphrase (`pkcs8`), mode 0600; a passphrase comes from a
prompt, a file or a file descriptor, never from an argument. Both blocks are plain PEM: `openssl pkey -in owner.key`
reads the first.

scrypt is slow on purpose (two tenths of a second), so a process runs it once for a file and its passphrase and keeps
the keys in memory. The file, its mode and the passphrase are still read each time, so a file that was removed unlocks
nothing more.
"""

from __future__ import annotations

import base64
import getpass
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

from common.crypto import pkcs8
from common.crypto.header import MIN_RSA_BITS
from common.errors import ConfigError, InputError

_LABEL = "ENCRYPTED PRIVATE KEY"
_MAX_PASSPHRASE_BYTES = 1024
_MOST_UNLOCKED = 256
_MEMO_KEY = secrets.token_bytes(32)
_from_descriptors: dict[tuple[int, int], bytes] = {}
_unlocked: dict[bytes, tuple[RSAPrivateKey, Ed25519PrivateKey]] = {}
MIN_PASSPHRASE_BYTES = 12


@dataclass(frozen=True)
class PublicRole:
    """A role's public keys: one to seal objects to it, one to check its signatures."""

    role: str
    encryption: RSAPublicKey
    signing: Ed25519PublicKey

    def as_dict(self) -> dict[str, str]:
        """JSON form: PEM and hex."""
        return {"encryption": _public_pem(self.encryption), "signing": self.signing.public_bytes_raw().hex()}

    @classmethod
    def from_dict(cls, role: str, data: dict[str, str]) -> PublicRole:
        """Read `as_dict`'s form.

        Raises
        ------
        InputError : the keys can't be read or are too short.
        """
        try:
            encryption = serialization.load_pem_public_key(data["encryption"].encode())
            signing = Ed25519PublicKey.from_public_bytes(bytes.fromhex(data["signing"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise InputError(f"the public keys of role '{role}' can't be read") from None
        if not isinstance(encryption, RSAPublicKey) or encryption.key_size < MIN_RSA_BITS:
            raise InputError(f"role '{role}' needs an RSA key of {MIN_RSA_BITS} bits or more")
        return cls(role, encryption, signing)


@dataclass(frozen=True, repr=False)
class RoleKey:
    """A role's private keys, unlocked: they open what is sealed to the role and sign in its name."""

    role: str
    encryption: RSAPrivateKey
    signing: Ed25519PrivateKey

    @classmethod
    def generate(cls, role: str, bits: int = MIN_RSA_BITS) -> RoleKey:
        """Make new keys from the system's random numbers."""
        return cls(role, rsa.generate_private_key(65537, bits), Ed25519PrivateKey.generate())

    def public(self) -> PublicRole:
        """The public keys."""
        return PublicRole(self.role, self.encryption.public_key(), self.signing.public_key())

    def __repr__(self) -> str:
        return f"RoleKey({self.role!r}, …)"


@dataclass(frozen=True)
class PassphraseSource:
    """Where a passphrase comes from: `prompt`, `file:PATH` or `fd:NUMBER`."""

    kind: str = "prompt"
    value: str = ""

    @classmethod
    def parse(cls, text: str) -> PassphraseSource:
        """Read the text of a command's option.

        Raises
        ------
        ConfigError : it isn't one of the three forms; the error doesn't repeat it, since it may be a passphrase.
        """
        kind, _, value = text.partition(":")
        if (
            (kind == "prompt" and not value)
            or (kind == "file" and value)
            or (kind == "fd" and value.isdecimal())
        ):
            return cls(kind, value)
        raise ConfigError(
            "the passphrase's source isn't known", where="--passphrase",
            next_step="give prompt, file:PATH or fd:NUMBER, never the passphrase itself",
        )  # fmt: skip

    def read(self, prompt: str, *, confirm: bool = False) -> bytes:
        """The passphrase as UTF-8, without its line end.

        Raises
        ------
        InputError : it can't be read, is empty or too long, or the second entry differs.
        """
        if self.kind == "prompt":
            typed = getpass.getpass(f"{prompt}: ")
            if confirm and getpass.getpass(f"{prompt} (again): ") != typed:
                raise InputError("the two passphrases differ", next_step="try again")
            passphrase = typed.encode()
        else:
            passphrase = self._bytes().split(b"\n", 1)[0].rstrip(b"\r")
        if not passphrase or len(passphrase) > _MAX_PASSPHRASE_BYTES:
            raise InputError("the passphrase is empty or too long", where=self.kind)
        return passphrase

    def _bytes(self) -> bytes:
        try:
            if self.kind == "fd":
                with os.fdopen(os.dup(int(self.value)), "rb") as stream:
                    return _drained(stream)
            _refuse_open_file(Path(self.value))
            with Path(self.value).open("rb") as stream:
                return stream.read(_MAX_PASSPHRASE_BYTES + 2)
        except (OSError, OverflowError):
            raise InputError("the passphrase can't be read", where=f"{self.kind}:{self.value}") from None


def _drained(stream: BinaryIO) -> bytes:
    """What a descriptor holds. One that is exhausted returns what this process read from it before."""
    about = os.fstat(stream.fileno())
    data = stream.read(_MAX_PASSPHRASE_BYTES + 2)
    if data:
        _from_descriptors[about.st_dev, about.st_ino] = data
    return data or _from_descriptors.get((about.st_dev, about.st_ino), b"")


def lock(path: Path, key: RoleKey, passphrase: bytes) -> None:
    """Write a role key to a new file of mode 0600.

    Raises
    ------
    InputError : the passphrase is shorter than 12 bytes, or the file exists already.
    """
    if len(passphrase) < MIN_PASSPHRASE_BYTES:
        raise InputError(f"the passphrase must have at least {MIN_PASSPHRASE_BYTES} bytes")
    blocks = pkcs8.encrypt([_der(key.encryption), _der(key.signing)], passphrase)
    text = "".join(_pem(block) for block in blocks)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise InputError("the key file can't be written", where=str(path), why=str(fault.strerror)) from None
    with os.fdopen(handle, "w", encoding="ascii") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def unlock(key_file: Path, passphrase_source: PassphraseSource, *, role: str = "") -> RoleKey:
    """Read a role key; the role's name is the file's stem (`owner.key`) unless given.

    Raises
    ------
    InputError : the file is missing, open to others, damaged, or the passphrase is wrong.
    """
    name = role or key_file.stem
    try:
        _refuse_open_file(key_file)
        text = key_file.read_bytes()
    except OSError as fault:
        raise InputError(
            "the key file can't be read", where=str(key_file), why=str(fault.strerror),
            next_step="check the vault's folder, or name the key file with --key",
        ) from None  # fmt: skip
    passphrase = passphrase_source.read(f"Passphrase of role {name}")
    encryption, signing = _decrypted(text, passphrase, key_file)
    return RoleKey(name, encryption, signing)


def _decrypted(text: bytes, passphrase: bytes, key_file: Path) -> tuple[RSAPrivateKey, Ed25519PrivateKey]:
    """Both keys of a file's text, kept in memory under a keyed hash of text and passphrase."""
    material = len(passphrase).to_bytes(4, "big") + passphrase + text
    memo = hashlib.blake2b(material, key=_MEMO_KEY).digest()
    if keys := _unlocked.get(memo):
        return keys
    try:
        first, second = pkcs8.decrypt(_blocks(text), passphrase)
        encryption = serialization.load_der_private_key(first, None)
        signing = serialization.load_der_private_key(second, None)
    except (ValueError, TypeError):
        raise InputError(
            "the key file can't be unlocked",
            where=str(key_file),
            why="it is damaged or the passphrase is wrong",
        ) from None
    if not isinstance(encryption, RSAPrivateKey) or not isinstance(signing, Ed25519PrivateKey):
        raise InputError("the key file holds other keys than a role's", where=str(key_file))
    if len(_unlocked) >= _MOST_UNLOCKED:
        _unlocked.clear()
    _unlocked[memo] = encryption, signing
    return encryption, signing


def signer_id(key: Ed25519PublicKey) -> str:
    """A short name of a signing key: 16 hex digits of its SHA-256."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def _refuse_open_file(path: Path) -> None:
    if path.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise InputError("the file is open to other users", where=str(path), next_step="chmod 600 it")


def _der(key: RSAPrivateKey | Ed25519PrivateKey) -> bytes:
    unencrypted = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, unencrypted)


def _public_pem(key: RSAPublicKey) -> str:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.PEM, form).decode()


def _blocks(text: bytes) -> list[bytes]:
    """The two PEM blocks of a key file in DER."""
    end = f"-----END {_LABEL}-----".encode()
    begin = f"-----BEGIN {_LABEL}-----".encode()
    parts = [part.partition(begin)[2] for part in text.split(end)[:2]]
    return [base64.b64decode(b"".join(part.split()), validate=True) for part in parts]


def _pem(der: bytes) -> str:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {_LABEL}-----", *lines, f"-----END {_LABEL}-----", ""])
