"""An independent reader of sealed files, written from the format in clients/vault/README.md alone; imports no Hansa."""

from __future__ import annotations

import hashlib
import hmac

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block of output."""
    extracted = hmac.digest(salt, key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def read(data: bytes, private: RSAPrivateKey, associated: bytes) -> bytes:
    """The plaintext of a sealed file; ValueError where the format is broken."""
    header, payload = data[:4096], data[4096:]
    if header[:9] != b"HANSAENV\x01":
        raise ValueError("magic")
    object_id, at, wrapped = header[10:26], 26, b""
    spki = private.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    for _ in range(header[9]):
        length = int.from_bytes(header[at + 48 : at + 50], "big")
        if header[at + 16 : at + 48] == hashlib.sha256(spki).digest():
            wrapped = header[at + 50 : at + 50 + length]
        at += 50 + length
    oaep = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), b"hansa envelope 1" + object_id)
    data_key = private.decrypt(wrapped, oaep)
    mac = hmac.digest(
        hkdf(data_key, object_id, b"hansa envelope 1 header\x00" + associated), header[:4064], "sha256"
    )
    if not hmac.compare_digest(mac, header[4064:]):
        raise ValueError("header")
    cipher = AESGCM(hkdf(data_key, object_id, b"hansa envelope 1 payload\x00" + associated))
    segments = [payload[start : start + 65552] for start in range(0, len(payload), 65552)]
    plain = b""
    for number, segment in enumerate(segments):
        last = b"\x01" if number == len(segments) - 1 else b"\x00"
        plain += cipher.decrypt(number.to_bytes(11, "big") + last, segment, None)
    return plain
