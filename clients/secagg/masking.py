"""The masks of a site's uploads, and the shares that remove them from a sum (Bonawitz et al. 2017).

Invariants:

- An attempt's label is written down before its upload leaves, so its masks protect one upload only. An upload that was
  lost may be sent again unchanged.
- A site signs one survivor set per round, however many attempts the coordinator makes: the difference of two sets'
  sums could reveal a single update.
- A site reveals shares only for a survivor set that enough sites signed.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clients.secagg.keys import SiteKeys
from common.canonical import canonical
from common.crypto import shamir
from common.crypto.container import check_signature
from common.crypto.fields import Words
from common.errors import WireError
from common.files import read_json, write_json
from common.he.cipher import Values
from common.privacy.shared_noise import require_honest
from common.secagg import masks
from common.secagg.protocol import LEAST_GROUP, Attempt, survivor_message
from common.settings.config import LeagueConfig


class Masking:
    """What a site remembers of the attempts that it took part in."""

    def __init__(self, folder: Path, name: str, config: LeagueConfig, keys: SiteKeys) -> None:
        self._folder, self._name, self._keys = folder, name, keys
        self._config, self._run, self._rounds = config, config.digest(), config.rounds
        self._where = f"site '{name}'"

    def use(self, attempt: Attempt, values: Values) -> None:
        """Write down that this attempt's masks are used for these values.

        Raises
        ------
        WireError : they were used for other values before, or the attempt's round is over.
        """
        used, label = self._used(), attempt.label(self._run)
        digest = hashlib.sha256(np.ascontiguousarray(values).data).hexdigest()
        earlier = used.get(label, {})
        if (
            earlier
            and label == _in_order(used)[-1]
            and earlier["signed"] is None
            and earlier["words"] == digest
        ):
            return
        if label in used or any(entry["round"] > attempt.round for entry in used.values()):
            raise WireError(
                "the coordinator asks for an update under masks of an earlier attempt", where=self._where
            )
        if self._rounds.groups > 1 and len(attempt.names) < LEAST_GROUP:
            raise WireError(f"a group has fewer than {LEAST_GROUP} sites", where=self._where)
        used[label] = {
            "number": len(used),
            "round": attempt.round,
            "signed": None,
            "sum": None,
            "words": digest,
        }
        write_json(self._folder / "attempts.json", used)

    def mask(self, words: Words, attempt: Attempt) -> tuple[Words, list[bytes]]:
        """The masked words, and for each site of the cohort the encrypted shares of this site's seeds (own: empty)."""
        seeds = self._pair_seeds(attempt)
        self_seed, shares = self._own_shares(attempt, seeds)
        masked = masks.mask(words, self._name, seeds, self_seed)
        return masked, [
            b""
            if name == self._name
            else _encrypted(self._share_key(attempt, name, self._name), shares[place])
            for place, name in enumerate(attempt.names, 1)
        ]

    def agree(self, attempt: Attempt, survivors: list[str]) -> dict[str, Any]:
        """Sign the survivor set of the newest attempt; never a second set in the same round.

        Raises
        ------
        WireError : the set is of another attempt or cohort, or differs from one that was signed.
        QuorumError : the set is so small that its sum could reveal one site's update.
        """
        used, label = self._used(), attempt.label(self._run)
        if label not in used or label != _in_order(used)[-1]:
            raise WireError("the survivor set is of an attempt that is over", where=self._where)
        if self._name not in survivors or survivors != [n for n in attempt.names if n in survivors]:
            raise WireError("the survivor set is not of this cohort", where=self._where)
        masks.require_survivors(len(survivors), len(attempt.names), self._rounds.colluding_sites, self._where)
        require_honest(self._config, len(survivors), self._where)
        message, summed = survivor_message(label, survivors), _sum_digest(attempt, survivors)
        other_sums = {e["sum"] for e in used.values() if e["round"] == attempt.round} - {None, summed}
        if other_sums:
            raise WireError("the site has signed another survivor set", where=self._where)
        used[label] |= {"signed": hashlib.sha256(message).hexdigest(), "sum": summed}
        write_json(self._folder / "attempts.json", used)
        return {"signature": self._keys.sign.sign(message).hex()}

    def reveal(self, attempt: Attempt, question: dict[str, Any]) -> dict[str, Any]:
        """Shares of the survivors' self-mask seeds and their pair seeds with dropped sites, if enough sites signed."""
        survivors, label = list(question["survivors"]), attempt.label(self._run)
        self.require_signed(attempt, survivors)
        message, peers = survivor_message(label, survivors), self._keys.peers()
        signed = {name for name in question["signatures"] if name in survivors}
        for name in signed:
            signer, signature = bytes.fromhex(peers[name]["ed25519"]), question["signatures"][name]
            check_signature(signer, message, bytes.fromhex(signature), where=self._where)
        if len(signed) < self._need(attempt):
            raise WireError(
                f"{len(signed)} sites signed the survivor set, not {self._need(attempt)}", where=self._where
            )
        dropped = [name for name in attempt.names if name not in survivors]
        revealed: dict[str, dict[str, str]] = {}
        for sender in survivors:
            owners = [sender, *dropped]
            shares = self._shares_of(attempt, sender, owners, question["shares"].get(sender, ""))
            if shares is not None:
                revealed[sender] = {name: share.hex() for name, share in zip(owners, shares, strict=True)}
        return {"shares": revealed}

    def require_signed(self, attempt: Attempt, survivors: list[str]) -> None:
        """Raises
        ------
        WireError : the site signed another survivor set for this attempt.
        """
        signed = self._used().get(attempt.label(self._run), {}).get("signed")
        message = survivor_message(attempt.label(self._run), survivors)
        if signed is not None and signed != hashlib.sha256(message).hexdigest():
            raise WireError("the survivor set differs from the one this site signed", where=self._where)

    def _own_shares(self, attempt: Attempt, seeds: Mapping[str, bytes]) -> tuple[bytes, dict[int, bytes]]:
        """This site's self-mask seed and the shares of all its seeds; the same when the upload is made again."""
        path, label = self._folder / "own-shares.json", attempt.label(self._run)
        stored = read_json(path) if path.exists() else {}
        if stored.get("attempt") != label:
            seed = os.urandom(masks.SEED_BYTES)
            secret = b"".join([seed if name == self._name else seeds[name] for name in attempt.names])
            parts = shamir.split(secret, self._need(attempt), len(attempt.names))
            shares = {str(place): part.hex() for place, part in parts.items()}
            stored = {"attempt": label, "seed": seed.hex(), "shares": shares}
            write_json(path, stored)
        return bytes.fromhex(stored["seed"]), {
            int(n): bytes.fromhex(part) for n, part in stored["shares"].items()
        }

    def _used(self) -> dict[str, dict[str, Any]]:
        path = self._folder / "attempts.json"
        return dict(read_json(path)) if path.exists() else {}

    def _need(self, attempt: Attempt) -> int:
        return masks.threshold_of(len(attempt.names), self._rounds.colluding_sites)

    def _pair_seeds(self, attempt: Attempt) -> dict[str, bytes]:
        label, peers = attempt.label(self._run), self._keys.peers()
        others = [name for name in attempt.names if name != self._name]
        return {
            name: masks.pair_key(self._keys.agree, bytes.fromhex(peers[name]["x25519"]), label, "mask")
            for name in others
        }

    def _share_key(self, attempt: Attempt, peer: str, sender: str) -> bytes:
        public = bytes.fromhex(self._keys.peers()[peer]["x25519"])
        return masks.pair_key(self._keys.agree, public, attempt.label(self._run), f"share from {sender}")

    def _shares_of(
        self, attempt: Attempt, sender: str, names: list[str], encrypted: str
    ) -> list[bytes] | None:
        """This site's shares of a sender's seeds: its own from the disk, a peer's decrypted from the question."""
        places = [attempt.names.index(name) for name in names]
        if sender == self._name:
            whole = self._own_shares(attempt, self._pair_seeds(attempt))[1][attempt.names.index(sender) + 1]
            return [whole[place * masks.SEED_BYTES :][: masks.SEED_BYTES] for place in places]
        try:
            key = AESGCM(self._share_key(attempt, sender, sender))
            parts = masks.slices(bytes.fromhex(encrypted), range(len(places)))
            return [key.decrypt(_nonce(place), part, b"") for place, part in zip(places, parts, strict=True)]
        except (InvalidTag, ValueError):
            return None


def _encrypted(key: bytes, share: bytes) -> bytes:
    """Encrypt a share of all seeds of a cohort, seed by seed, so that only the needed ones are sent back."""
    gcm, size = AESGCM(key), masks.SEED_BYTES
    starts = range(0, len(share), size)
    return b"".join(gcm.encrypt(_nonce(at // size), share[at : at + size], b"") for at in starts)


def _nonce(place: int) -> bytes:
    """The nonce is the place: a share key encrypts for one attempt, and each place of its cohort once."""
    return place.to_bytes(12, "big")


def _in_order(used: Mapping[str, Mapping[str, Any]]) -> list[str]:
    # JSON sorts its keys, so the order is kept as a number.
    return sorted(used, key=lambda label: int(used[label]["number"]))


def _sum_digest(attempt: Attempt, survivors: list[str]) -> str:
    weights = {name: attempt.weights[name] for name in attempt.names}
    return hashlib.sha256(canonical([attempt.round, weights, survivors])).hexdigest()
