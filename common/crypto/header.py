"""The header of a sealed object, 4096 bytes before its segments: its id and one wrapped data key per role.

Invariant: the header's last 32 bytes are an HMAC whose key is derived from the data key, the object id and the
associated data. So an edited slot, id or padding byte is refused before any segment is opened.

RSAES-OAEP with SHA-256: RFC 8017 §7.1. HKDF: RFC 5869. Byte by byte: `clients/vault/README.md`.
"""

from __future__ import annotations

import hashlib
import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.errors import ConfigError, HansaError

HEADER_BYTES = 4096
DATA_KEY_BYTES = 32
OBJECT_ID_BYTES = 16
MIN_RSA_BITS = 3072
_MAGIC = b"HANSAENV\x01"
_MAC_BYTES = 32
_FIXED = struct.Struct(">9sB16s")
_SLOT = struct.Struct(">16s32sH")


class EnvelopeError(HansaError):
    """An object is damaged, was edited, or isn't for this key; the error never tells which."""

    exit_code = 8

    def __init__(self) -> None:
        super().__init__(
            "the sealed object can't be opened",
            why="it is damaged, isn't whole, or isn't meant for this key",
            next_step="use a role that may read it, or restore it from a backup",
        )


@dataclass(frozen=True)
class Slot:
    """The data key, wrapped for one role; `fingerprint` is SHA-256 over the public key's DER."""

    role: str
    fingerprint: bytes
    wrapped: bytes


@dataclass(frozen=True)
class EnvelopeHeader:
    """A header's fields."""

    object_id: bytes
    slots: tuple[Slot, ...]

    def sealed(self, data_key: bytes, context: bytes) -> bytes:
        """The 4096 bytes, authenticated.

        Raises
        ------
        ConfigError : the slots are too many or too long for the header.
        """
        body = _FIXED.pack(_MAGIC, len(self.slots), self.object_id)
        for slot in self.slots:
            body += _SLOT.pack(slot.role.encode("ascii"), slot.fingerprint, len(slot.wrapped)) + slot.wrapped
        if len(body) > HEADER_BYTES - _MAC_BYTES:
            raise ConfigError("an object can't be sealed to so many roles", next_step="name fewer roles")
        body = body.ljust(HEADER_BYTES - _MAC_BYTES, b"\0")
        return body + hmac.digest(mac_key(data_key, self.object_id, context), body, "sha256")

    @classmethod
    def parse(cls, raw: bytes) -> EnvelopeHeader:
        """Read a header without authenticating it.

        Raises
        ------
        EnvelopeError : the bytes aren't a header.
        """
        try:
            magic, count, object_id = _FIXED.unpack_from(raw)
            if len(raw) != HEADER_BYTES or magic != _MAGIC:
                raise EnvelopeError
            slots, at = [], _FIXED.size
            for _ in range(count):
                role, fingerprint, length = _SLOT.unpack_from(raw, at)
                at += _SLOT.size
                if at + length > HEADER_BYTES - _MAC_BYTES:
                    raise EnvelopeError
                slots.append(Slot(role.rstrip(b"\0").decode("ascii"), fingerprint, raw[at : at + length]))
                at += length
        except (struct.error, UnicodeDecodeError):
            raise EnvelopeError from None
        return cls(object_id, tuple(slots))


def fingerprint(key: RSAPublicKey) -> bytes:
    """SHA-256 over the DER of the SubjectPublicKeyInfo."""
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, form)).digest()


def wrap(data_key: bytes, object_id: bytes, recipients: Mapping[str, RSAPublicKey]) -> tuple[Slot, ...]:
    """One slot per role, in the order of their names.

    Raises
    ------
    ConfigError : no role is given, a name is too long, or a key is shorter than 3072 bits.
    """
    if not recipients:
        raise ConfigError("an object must be sealed to at least one role")
    slots = []
    for role, key in sorted(recipients.items()):
        if key.key_size < MIN_RSA_BITS:
            raise ConfigError(
                f"the key of role '{role}' has {key.key_size} bits", why=f"{MIN_RSA_BITS} are the least"
            )
        if not role.isascii() or not 0 < len(role) <= 16:
            raise ConfigError(f"the role's name '{role}' must be 1 to 16 ASCII letters")
        slots.append(Slot(role, fingerprint(key), key.encrypt(data_key, _oaep(object_id))))
    return tuple(slots)


def unwrap(
    raw: bytes, key: RSAPrivateKey, key_fingerprint: bytes, context: bytes
) -> tuple[EnvelopeHeader, bytes]:
    """The authenticated header and its data key.

    Raises
    ------
    EnvelopeError : whatever is wrong.
    """
    header = EnvelopeHeader.parse(raw)
    for slot in header.slots:
        if slot.fingerprint == key_fingerprint:
            try:
                data_key = key.decrypt(slot.wrapped, _oaep(header.object_id))
            except ValueError:
                raise EnvelopeError from None
            expected = hmac.digest(mac_key(data_key, header.object_id, context), raw[:-_MAC_BYTES], "sha256")
            if len(data_key) != DATA_KEY_BYTES or not hmac.compare_digest(expected, raw[-_MAC_BYTES:]):
                raise EnvelopeError
            return header, data_key
    raise EnvelopeError


def payload_key(data_key: bytes, object_id: bytes, context: bytes) -> bytes:
    """The AES-256 key of the segments. It doesn't depend on the slots, so rotation leaves the segments alone."""
    return _derive(data_key, object_id, b"hansa envelope 1 payload\0" + context)


def mac_key(data_key: bytes, object_id: bytes, context: bytes) -> bytes:
    """The key of the header's HMAC."""
    return _derive(data_key, object_id, b"hansa envelope 1 header\0" + context)


def key_check(data_key: bytes, object_id: bytes, context: bytes) -> bytes:
    """32 bytes that only a holder of the data key can compute: an index keeps them to recognise its own object."""
    return _derive(data_key, object_id, b"hansa envelope 1 check\0" + context)


def _derive(data_key: bytes, object_id: bytes, info: bytes) -> bytes:
    return HKDF(hashes.SHA256(), length=32, salt=object_id, info=info).derive(data_key)


def _oaep(object_id: bytes) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"hansa envelope 1" + object_id)
