"""The signed container of a protected message: it states all facts about itself, and all of it is signed.

    "HANSA1" | u32 length of facts | facts (canonical JSON) | parts … | Ed25519 signature (64 bytes)

`facts` holds what the contract fixes (run, round, site, key epoch, attempt, digest of parameters, layout and clip)
and the exact length of each part. Invariant: `open_container` verifies the signature over all bytes before it reads
the facts, compares every fact with the expected one, and cuts the body exactly. Only then are the parts parsed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from common.canonical import canonical
from common.errors import WireError

MAGIC = b"HANSA1"
_LENGTH, _SIGNATURE = 4, 64
_MAX_FACTS = 1 << 18
_CONTEXT = b"hansa container 1\x00"
Facts = dict[str, str | int]


def sign_container(facts: Mapping[str, str | int], parts: Sequence[bytes], key: Ed25519PrivateKey) -> bytes:
    """Put facts and parts into one signed container."""
    head = canonical({**facts, "lengths": [len(part) for part in parts]})
    body = [MAGIC, len(head).to_bytes(_LENGTH, "big"), head, *parts]
    return b"".join([*body, key.sign(_CONTEXT + _digest(body))])


def open_container(
    data: bytes, expected: Mapping[str, str | int], signer: bytes, *, where: str
) -> list[memoryview]:
    """The parts of a container, as views of `data`; it must state exactly the expected facts.

    Parameters
    ----------
    signer : the sender's Ed25519 public key, 32 bytes.

    Raises
    ------
    WireError : the signature, a fact or a length differs.
    """
    if len(data) < len(MAGIC) + _LENGTH + _SIGNATURE or data[: len(MAGIC)] != MAGIC:
        raise WireError("the message is no container", where=where)
    view = memoryview(data)
    check_signature(signer, _CONTEXT + _digest([view[:-_SIGNATURE]]), data[-_SIGNATURE:], where=where)
    start = len(MAGIC) + _LENGTH
    stop = start + int.from_bytes(data[len(MAGIC) : start], "big")
    if stop - start > _MAX_FACTS or stop > len(data) - _SIGNATURE:
        raise WireError("the container's facts have an impossible length", where=where)
    facts = _facts(data[start:stop], where)
    lengths = facts.pop("lengths", None)
    for name in sorted(set(facts) | set(expected)):
        if facts.get(name) != expected.get(name) or type(facts.get(name)) is not type(expected.get(name)):
            raise WireError(f"the container states another {name}", where=where)
    return _cut(view[stop:-_SIGNATURE], lengths, where)


def check_signature(signer: bytes, message: bytes, signature: bytes, *, where: str) -> None:
    """Raises
    ------
    WireError : the signature isn't the signer's over this message.
    """
    try:
        Ed25519PublicKey.from_public_bytes(signer).verify(signature, message)
    except (InvalidSignature, ValueError):
        raise WireError("the signature is not the sender's", where=where) from None


def _digest(parts: Sequence[bytes | memoryview]) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.digest()


def _facts(head: bytes, where: str) -> dict[str, Any]:
    try:
        facts = json.loads(head)
    except (ValueError, RecursionError):
        raise WireError("the container's facts can't be read", where=where) from None
    if not isinstance(facts, dict) or canonical(facts) != head:
        raise WireError("the container's facts are not in canonical form", where=where)
    return facts


def _cut(body: memoryview, lengths: Any, where: str) -> list[memoryview]:
    if not isinstance(lengths, list) or any(type(n) is not int or n < 0 for n in lengths):
        raise WireError("the container states no lengths", where=where)
    if sum(lengths) != len(body):
        raise WireError("the container's lengths don't add up", where=where)
    parts, start = [], 0
    for length in lengths:
        parts.append(body[start : start + length])
        start += length
    return parts
