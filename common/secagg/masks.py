"""Masks that cancel in a cohort's sum (Bonawitz et al. 2017), over words modulo t.

Each pair of sites derives a seed for one attempt at one round from its X25519 secret. The site whose name sorts first
adds the pair's mask, the other subtracts it. Each site also adds a self-mask, made from a seed of its own; the other
sites hold Shamir shares of that seed.

Invariants: whoever lacks one of the seeds of a masked word sees a uniform number modulo t. The sum of all masked
vectors, minus the survivors' self-masks and minus the pair masks between survivors and dropped sites, is the sum of
the words.

Words are exactly uniform: each takes 44 bits of AES-128-CTR, and the fraction 2⁻³⁰ of them that isn't below t is drawn
again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from common.crypto.fields import MODULUS, Words
from common.errors import QuorumError, WireError

SEED_BYTES = 16
SLICE_BYTES = SEED_BYTES + 16
"""The length of one seed's share, encrypted by AES-GCM."""
_BLOCK = 8192
_ZEROS = memoryview(bytes(8 * _BLOCK))
_LOW_BITS = np.uint64((1 << 44) - 1)
_T = np.uint64(MODULUS)


def attempt_label(run: str, round_: int, nonce: str, cohort: Sequence[str]) -> str:
    """The label of one attempt at a round; another cohort, round or nonce gives another label, and so other seeds."""
    text = "\x1f".join(["hansa attempt 1", run, str(round_), nonce, *cohort])
    return hashlib.sha256(text.encode()).hexdigest()


def pair_key(own: X25519PrivateKey, peer: bytes, label: str, purpose: str) -> bytes:
    """Sixteen bytes that only the two sites of a pair can derive, for one attempt and purpose.

    Raises
    ------
    WireError : the peer's public key is no point of full order.
    """
    try:
        secret = own.exchange(X25519PublicKey.from_public_bytes(peer))
    except ValueError:
        raise WireError("a peer's key can't be used", where="masks") from None
    info = f"hansa {purpose} 1".encode()
    return HKDF(hashes.SHA256(), SEED_BYTES, salt=bytes.fromhex(label), info=info).derive(secret)


def slices(shares: bytes, places: Iterable[int]) -> list[bytes]:
    """Cut the shares at some places out of the encrypted shares of a whole cohort's seeds."""
    return [shares[SLICE_BYTES * place : SLICE_BYTES * (place + 1)] for place in places]


def expand(seed: bytes, count: int) -> Words:
    """`count` words, uniform modulo t, from a seed."""
    return np.concatenate([np.zeros(0, dtype=np.uint64), *_blocks(seed, count)])


def _blocks(seed: bytes, count: int) -> Iterator[Words]:
    """The words of `expand`, 8,192 at a time, so that they are still in the processor's cache when they're added."""
    stream = Cipher(AES128(seed), CTR(bytes(16))).encryptor()
    for start in range(0, count, _BLOCK):
        words = (
            np.frombuffer(stream.update(_ZEROS[: 8 * min(_BLOCK, count - start)]), dtype="<u8") & _LOW_BITS
        )
        while int(words.max()) >= MODULUS:
            odd = np.flatnonzero(words >= _T)
            words[odd] = np.frombuffer(stream.update(_ZEROS[: 8 * odd.size]), dtype="<u8") & _LOW_BITS
        yield words


def mask(words: Words, own: str, seeds: Mapping[str, bytes], self_seed: bytes) -> Words:
    """Words with the self-mask and the masks of all pairs; `seeds` are by the peers' names."""
    plus = [self_seed, *(seed for peer, seed in seeds.items() if own < peer)]
    return _shift(words, plus, [seed for peer, seed in seeds.items() if own > peer])


def leftover_mask(
    count: int, self_seeds: Iterable[bytes], left_over: Mapping[tuple[str, str], bytes]
) -> Words:
    """Survivors' self-masks plus their pair masks with the dropped.

    Parameters
    ----------
    left_over : seeds by (survivor, dropped).
    """
    plus = [*self_seeds, *(seed for (survivor, dropped), seed in left_over.items() if survivor < dropped)]
    minus = [seed for (survivor, dropped), seed in left_over.items() if survivor > dropped]
    return _shift(np.zeros(count, dtype=np.uint64), plus, minus)


def threshold_of(sites: int, colluding: int) -> int:
    """How many survivors must sign, and reveal shares, to open a sum: so many that no two survivor sets both reach it.

    Each honest site signs one set per attempt, so two opened sets would need 2·threshold ≤ sites + colluding
    signatures.
    """
    return min(sites, max(2, (sites + colluding) // 2 + 1))


def require_survivors(survivors: int, sites: int, colluding: int, where: str) -> None:
    """Refuse a sum of so few updates that it could reveal a single one.

    Raises
    ------
    QuorumError : fewer than the threshold, or fewer than two honest ones.
    """
    need = max(threshold_of(sites, colluding), min(sites, colluding + 2))
    if survivors < need or survivors < 2:
        raise QuorumError(
            f"{survivors} of {sites} sites sent an update, but masks open from {max(2, need)} on", where=where,
            why="a sum of fewer could tell one site's update", next_step="resume when more sites are there",
        )  # fmt: skip


def _shift(words: Words, plus: Sequence[bytes], minus: Sequence[bytes]) -> Words:
    # 2^20 terms of 44 bits fit 64 bits, so one reduction at the end is enough.
    total, count = words.copy(), len(words)
    added, subtracted = [_blocks(seed, count) for seed in plus], [_blocks(seed, count) for seed in minus]
    for start in range(0, count, _BLOCK):
        part = total[start : start + _BLOCK]
        for blocks in added:
            part += next(blocks)
        for blocks in subtracted:
            part += _T - next(blocks)
        part %= _T
    return total
