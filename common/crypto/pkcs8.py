"""Private keys under a passphrase: PKCS#8 `EncryptedPrivateKeyInfo` (RFC 5958) with PBES2, scrypt and AES-256-CBC.

Written by hand because the library writes only PBKDF2; read by hand so that all keys of one file need scrypt only once:
they share the salt, and so the derived key, and differ in their IV. This doesn't help an attacker, who needs only one
key to test a guess of the passphrase.

Invariant: scrypt's parameters are N = 2^14, r = 8, p = 5 (RFC 7914). Others aren't read, so a file can't demand more
memory or less work.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence

from cryptography.hazmat.primitives import padding
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

_N, _R, _P = 1 << 14, 8, 5
_SALT_BYTES = _IV_BYTES = 16
_OID_PBES2 = bytes.fromhex("06092a864886f70d01050d")
_OID_SCRYPT = bytes.fromhex("06092b06010401da47040b")
_OID_AES256_CBC = bytes.fromhex("060960864801650304012a")
_SEQUENCE, _OCTETS, _NUMBER = 0x30, 0x04, 0x02


def encrypt(keys: Sequence[bytes], passphrase: bytes) -> list[bytes]:
    """`PrivateKeyInfo` in DER → `EncryptedPrivateKeyInfo` in DER, all under one derived key."""
    salt = secrets.token_bytes(_SALT_BYTES)
    key, blocks = _derived(passphrase, salt), []
    for key_info in keys:
        iv = secrets.token_bytes(_IV_BYTES)
        padder = padding.PKCS7(128).padder()
        cipher = Cipher(algorithms.AES256(key), modes.CBC(iv)).encryptor()
        encrypted = cipher.update(padder.update(key_info) + padder.finalize()) + cipher.finalize()
        blocks.append(_tlv(_SEQUENCE, _algorithm(salt, iv) + _tlv(_OCTETS, encrypted)))
    return blocks


def decrypt(blocks: Sequence[bytes], passphrase: bytes) -> list[bytes]:
    """The inverse of `encrypt`; scrypt runs once for each salt.

    Raises
    ------
    ValueError : a block isn't of this form, or the passphrase is wrong.
    """
    derived: dict[bytes, bytes] = {}
    keys = []
    for block in blocks:
        inner = _content(block, _SEQUENCE)
        algorithm, encrypted = inner[:_ALGORITHM_BYTES], _content(inner[_ALGORITHM_BYTES:], _OCTETS)
        salt, iv = algorithm[_SALT_AT : _SALT_AT + _SALT_BYTES], algorithm[-_IV_BYTES:]
        if algorithm != _algorithm(salt, iv):
            raise ValueError("another way of deriving or encrypting")
        if salt not in derived:
            derived[salt] = _derived(passphrase, salt)
        cipher = Cipher(algorithms.AES256(derived[salt]), modes.CBC(iv)).decryptor()
        padder = padding.PKCS7(128).unpadder()
        keys.append(padder.update(cipher.update(encrypted) + cipher.finalize()) + padder.finalize())
    return keys


def _derived(passphrase: bytes, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_N, r=_R, p=_P).derive(passphrase)


def _algorithm(salt: bytes, iv: bytes) -> bytes:
    numbers = b"".join(_integer(figure) for figure in (_N, _R, _P))
    kdf = _tlv(_SEQUENCE, _OID_SCRYPT + _tlv(_SEQUENCE, _tlv(_OCTETS, salt) + numbers))
    scheme = _tlv(_SEQUENCE, _OID_AES256_CBC + _tlv(_OCTETS, iv))
    return _tlv(_SEQUENCE, _OID_PBES2 + _tlv(_SEQUENCE, kdf + scheme))


def _tlv(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes([tag, size]) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes([tag, 0x80 | len(length)]) + length + content


def _content(der: bytes, tag: int) -> bytes:
    """The content of the one DER element that the bytes hold."""
    if len(der) < 2 or der[0] != tag:
        raise ValueError("another element was expected")
    start, size = 2, der[1]
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(der[2:start], "big")
    content = der[start:]
    if len(content) != size:
        raise ValueError("an element is cut off, or something follows it")
    return content


def _integer(value: int) -> bytes:
    return _tlv(_NUMBER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


_PROBE = _algorithm(b"\xaa" * _SALT_BYTES, bytes(_IV_BYTES))
_ALGORITHM_BYTES, _SALT_AT = len(_PROBE), _PROBE.index(b"\xaa" * _SALT_BYTES)
