"""A site's half of `masked`, `he` and `he+masked`: its keys, its share of each sum, and its own copy of the model.

Invariants: a mask is used for one upload only (the attempt's label is written down before the upload leaves); for one
attempt a site signs one survivor set and reveals shares only for a set that enough sites signed; under `he` and
`he+masked` the model, the optimiser and the league's key lie at the site alone and move on by sums in order.
"""

from __future__ import annotations

import hashlib
import hmac
import itertools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common import checkpoint, wire
from common.config import LeagueConfig
from common.crypto import he, masks, shamir
from common.crypto.container import check_signature, seal_container
from common.crypto.fields import dequantise, quantise
from common.crypto.protocol import (
    Attempt,
    bounded,
    bundle_message,
    norm_bound,
    survivor_message,
    upload_facts,
    wrap_message,
)
from common.errors import RunError, WireError
from common.optimisers import optimiser_for
from common.run_folder import read_json, write_json, write_whole

_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_NONCE = bytes(12)  # every key below encrypts one message only


class SealedSite:
    """Keys and private state of one site under one run.

    Parameters
    ----------
    folder : the site's private folder, of mode 0700.
    """

    def __init__(self, folder: Path, name: str, config: LeagueConfig, trainer: wire.Trainer) -> None:
        for private in (folder, folder / "model"):  # what is written within is 0600 from its creation
            private.mkdir(parents=True, exist_ok=True, mode=0o700)
            private.chmod(0o700)
        self._folder, self.name, self._config, self._trainer = folder, name, config, trainer
        self._run = config.digest()
        self._where = f"site '{name}'"
        keys = self._keys()
        self._sign = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(keys["ed25519"]))
        self._agree = X25519PrivateKey.from_private_bytes(bytes.fromhex(keys["x25519"]))
        self._rsa, self._rsa_public = keys["rsa"], keys["rsa_public"]

    def answer(self, step: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One step of the protocol between rounds.

        Raises
        ------
        WireError : the coordinator asks for what the contract doesn't allow.
        """
        try:
            if step == "offer":
                return self.offer()
            if step == "wrap":
                return self._wrap(asked["bundles"])
            if step == "install":
                return self._install(asked["bundles"], asked["wrapped"])
            if step == "agree":
                return self._agree_on(Attempt.of(asked["attempt"]), asked["survivors"])
            if step == "reveal":
                return self._reveal(Attempt.of(asked["attempt"]), asked)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WireError("the coordinator's question can't be read", where=self._where) from None
        raise WireError(f"there is no step '{step[:20]}'", where=self._where)

    def apply_order(self, plan: Mapping[str, Any], data: bytes) -> dict[str, Any]:
        """`apply`, from a message's scalars and bytes."""
        try:
            lengths = [int(n) for n in json.loads(str(plan["lengths"]))]
            survivors = [str(name) for name in json.loads(str(plan["survivors"]))]
            best = int(plan["best"])
        except (KeyError, TypeError, ValueError):
            raise WireError("the coordinator's sum can't be read", where=self._where) from None
        if sum(lengths) != len(data) or any(n < 0 for n in lengths):
            raise WireError("the sum's lengths don't add up", where=self._where)
        ends = np.cumsum([0, *lengths]).tolist()
        parts = [data[start:stop] for start, stop in itertools.pairwise(ends)]
        return self.apply(Attempt.of(str(plan["attempt"])), survivors, parts, None if best < 0 else best)

    def offer(self) -> dict[str, Any]:
        """The site's public keys, signed by itself."""
        bundle = {
            "site": self.name,
            "ed25519": self._sign.public_key().public_bytes_raw().hex(),
            "x25519": self._agree.public_key().public_bytes_raw().hex(),
            "rsa": self._rsa_public,
        }
        return {**bundle, "signature": self._sign.sign(bundle_message(self._run, bundle)).hex()}

    def protect(self, update: wire.FloatVector, attempt: Attempt) -> bytes:
        """clip → weight → quantise → pack → mask → encrypt → container → sign."""
        rounds = self._config.rounds
        packing, scale = attempt.packing(rounds), attempt.scale(rounds)
        words = packing.pack(
            quantise(bounded(update, rounds), attempt.share([self.name]), rounds.clip_range, scale)
        )
        self._use(attempt)
        shares: list[bytes] = []
        if "masked" in rounds.protection:
            self_seed, seeds = os.urandom(masks.SEED_BYTES), self._pair_seeds(attempt)
            words = masks.mask(words, self.name, seeds, self_seed)
            shares = self._shares(attempt, self_seed, seeds)
        parts = self.he_key().encrypt(words) if "he" in rounds.protection else [words.astype("<u8").tobytes()]
        size = self._trainer.layout()
        return seal_container(
            upload_facts(self._run, rounds, size, attempt, self.name), [*parts, *shares], self._sign
        )

    def vector(self, round_: int) -> wire.FloatVector:
        """The model after a round; the first one is drawn from the contract's seed.

        Raises
        ------
        WireError : the site stands elsewhere; the coordinator then sends the missing sums.
        """
        if round_ == 0:
            return self._trainer.initial()
        try:
            return checkpoint.load(self._folder / "model", round_, config=self._run).tensors["vector"]
        except RunError:
            raise WireError(f"the site has no model after round {round_}", where=self._where) from None

    def round(self) -> int:
        """Sums that the site has applied."""
        found, _ = checkpoint.load_latest(self._folder / "model", config=self._run)
        return found.round if found else 0

    def apply(
        self, attempt: Attempt, survivors: list[str], parts: list[bytes], best: int | None
    ) -> dict[str, Any]:
        """verify → decrypt → unpack → check → apply; a sum applied before changes nothing."""
        rounds, layout = self._config.rounds, self._trainer.layout()
        where = wire.place(self.name, attempt.round)
        done = self.round()
        if done < attempt.round:
            if done != attempt.round - 1:
                return {"round": done, "digest": ""}
            self._require_signed(attempt, survivors)
            packing, scale = attempt.packing(rounds), attempt.scale(rounds)
            words = self.he_key().decrypt(parts, packing.words(layout.size), where=where)
            mean = dequantise(packing.unpack(words, layout.size), attempt.share(survivors), scale)
            self._check(mean, layout, where)
            self._step(mean, attempt.round, best)
        vector = self.vector(attempt.round)
        digest = hmac.new(self._secret(), bytes.fromhex(wire.vector_digest(vector)), "sha256").hexdigest()
        return {"round": max(done, attempt.round), "digest": digest}

    def _check(self, mean: wire.FloatVector, layout: wire.Layout, where: str) -> None:
        wire.check_finite(mean, where=where)
        bound = norm_bound(self._config.rounds, mean.size) * 1.001
        for name, part in layout.unflatten(mean).items():
            if float(np.abs(part).max(initial=0.0)) > self._config.rounds.clip_range * 1.001:
                raise WireError(f"the sum moves '{name}' by more than the contract allows", where=where)
        if float(np.sqrt(np.vdot(mean, mean))) > bound:
            raise WireError("the sum's norm is above what the contract allows", where=where)

    def _step(self, mean: wire.FloatVector, round_: int, best: int | None) -> None:
        optimiser = optimiser_for(self._config.rounds, mean.size)
        folder = self._folder / "model"
        if round_ > 1:
            kept = checkpoint.load(folder, round_ - 1, config=self._run).tensors
            optimiser.restore({name: tensor for name, tensor in kept.items() if name != "vector"})
        vector = optimiser.step(self.vector(round_ - 1), mean)
        tensors = {"vector": vector, **optimiser.state()}
        state = checkpoint.Checkpoint(round_, self._run, self._trainer.layout().digest, tensors)
        checkpoint.save(folder, state, best_round=best)

    # Keys

    def _keys(self) -> dict[str, str]:
        path = self._folder / "keys.json"
        if not path.exists():
            private = rsa.generate_private_key(65537, 3072)
            pem = private.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            der = private.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            made = {
                "ed25519": Ed25519PrivateKey.generate().private_bytes_raw().hex(),
                "x25519": X25519PrivateKey.generate().private_bytes_raw().hex(),
                "rsa": pem.decode(),
                "rsa_public": der.hex(),
            }
            write_json(path, made)
        return {str(name): str(value) for name, value in read_json(path).items()}

    def _wrap(self, bundles: dict[str, dict[str, str]]) -> dict[str, Any]:
        """As steward: make the league's key and wrap it to every site."""
        path = self._folder / "wrapped.json"
        if path.exists():
            return dict(read_json(path))
        self._pin(bundles)
        secret, key = he.Key(he.scheme()).secret(), AESGCM.generate_key(256)
        body = {
            "steward": self.name,
            "epoch": 1,
            "keys": {
                name: _rsa_public(b["rsa"]).encrypt(key, _OAEP).hex() for name, b in sorted(bundles.items())
            },
            "body": AESGCM(key).encrypt(_NONCE, secret, self._run.encode()).hex(),
        }
        write_json(path, {**body, "signature": self._sign.sign(wrap_message(self._run, body)).hex()})
        return dict(read_json(path))

    def _install(self, bundles: dict[str, dict[str, str]], wrapped: dict[str, Any] | None) -> dict[str, Any]:
        self._pin(bundles)
        if wrapped is not None:
            body = {name: value for name, value in wrapped.items() if name != "signature"}
            signer = bytes.fromhex(bundles[body["steward"]]["ed25519"])
            if body["steward"] != min(bundles):
                raise WireError("the league's key isn't the steward's", where=self._where)
            check_signature(
                signer, wrap_message(self._run, body), bytes.fromhex(wrapped["signature"]), where=self._where
            )
            private = serialization.load_pem_private_key(self._rsa.encode(), None)
            if not isinstance(private, rsa.RSAPrivateKey):
                raise RunError("the site's key file is damaged", where=str(self._folder))
            try:
                key = private.decrypt(bytes.fromhex(body["keys"][self.name]), _OAEP)
                secret = AESGCM(key).decrypt(_NONCE, bytes.fromhex(body["body"]), self._run.encode())
            except (InvalidTag, ValueError):
                raise WireError("the league's key isn't wrapped to this site", where=self._where) from None
            path = self._folder / "league.key"
            if path.exists() and path.read_bytes() != secret:
                raise WireError("the coordinator brings another key for the same epoch", where=self._where)
            write_whole(path, secret)
        return {"round": self.round()}

    def _pin(self, bundles: dict[str, dict[str, str]]) -> None:
        """Check each bundle's own signature; what was once accepted can't be swapped later in the run."""
        for name, bundle in bundles.items():
            body = {key: value for key, value in bundle.items() if key != "signature"}
            if body["site"] != name:
                raise WireError("a bundle of keys names another site", where=self._where)
            signer = bytes.fromhex(body["ed25519"])
            check_signature(
                signer, bundle_message(self._run, body), bytes.fromhex(bundle["signature"]), where=self._where
            )
        if bundles.get(self.name) != self.offer():
            raise WireError("the coordinator lists other keys for this site", where=self._where)
        path = self._folder / "peers.json"
        if path.exists() and read_json(path) != bundles:
            raise WireError("the coordinator changed a site's keys within the run", where=self._where)
        write_json(path, bundles)

    def _peers(self) -> dict[str, dict[str, str]]:
        return dict(read_json(self._folder / "peers.json"))

    def _secret(self) -> bytes:
        return (self._folder / "league.key").read_bytes()

    def he_key(self) -> he.Key:
        """The league's key of this epoch."""
        return he.Key(he.scheme(), self._secret())

    # Masks

    def _pair_seeds(self, attempt: Attempt) -> dict[str, bytes]:
        label, peers = attempt.label(self._run), self._peers()
        others = [name for name in attempt.names if name != self.name]
        return {
            name: masks.pair_key(self._agree, bytes.fromhex(peers[name]["x25519"]), label, "mask")
            for name in others
        }

    def _shares(self, attempt: Attempt, self_seed: bytes, seeds: Mapping[str, bytes]) -> list[bytes]:
        """For each site of the cohort, its sealed share of this site's seeds; empty for itself."""
        secret = b"".join([self_seed if name == self.name else seeds[name] for name in attempt.names])
        need = masks.threshold_of(len(attempt.names), self._config.rounds.colluding_sites)
        made = shamir.split(secret, need, len(attempt.names))
        own = made[attempt.names.index(self.name) + 1]
        write_whole(self._folder / "own-share.bin", own)
        return [
            b""
            if name == self.name
            else AESGCM(self._share_key(attempt, name, self.name)).encrypt(_NONCE, made[place], b"")
            for place, name in enumerate(attempt.names, 1)
        ]

    def _share_key(self, attempt: Attempt, peer: str, sender: str) -> bytes:
        public = bytes.fromhex(self._peers()[peer]["x25519"])
        return masks.pair_key(self._agree, public, attempt.label(self._run), f"share from {sender}")

    def _use(self, attempt: Attempt) -> None:
        """Write down that this attempt's masks are used up."""
        path = self._folder / "attempts.json"
        used = dict(read_json(path)) if path.exists() else {}
        label = attempt.label(self._run)
        if label in used or any(entry["round"] > attempt.round for entry in used.values()):
            raise WireError(
                "the coordinator asks for an update under masks of an earlier attempt", where=self._where
            )
        used[label] = {"number": len(used), "round": attempt.round, "signed": None}
        write_json(path, used)

    def _agree_on(self, attempt: Attempt, survivors: list[str]) -> dict[str, Any]:
        """Sign one survivor set for the newest attempt, and never a second."""
        path, label = self._folder / "attempts.json", attempt.label(self._run)
        used = dict(read_json(path))
        if label not in used or label != used_in_order(used)[-1]:
            raise WireError("the survivor set is of an attempt that is over", where=self._where)
        if self.name not in survivors or survivors != [n for n in attempt.names if n in survivors]:
            raise WireError("the survivor set is not of this cohort", where=self._where)
        masks.require_survivors(
            len(survivors), len(attempt.names), self._config.rounds.colluding_sites, self._where
        )
        message = survivor_message(label, survivors)
        digest = hashlib.sha256(message).hexdigest()
        if used[label]["signed"] not in (None, digest):
            raise WireError("the site has signed another survivor set", where=self._where)
        used[label]["signed"] = digest
        write_json(path, used)
        return {"signature": self._sign.sign(message).hex()}

    def _reveal(self, attempt: Attempt, asked: dict[str, Any]) -> dict[str, Any]:
        """Shares of survivors' self-masks and of their pair masks with the dropped, for a set enough sites signed."""
        survivors, label = list(asked["survivors"]), attempt.label(self._run)
        self._require_signed(attempt, survivors)
        message, peers = survivor_message(label, survivors), self._peers()
        signed = {name for name in asked["signatures"] if name in survivors}
        for name in signed:
            signer, signature = (
                bytes.fromhex(peers[name]["ed25519"]),
                bytes.fromhex(asked["signatures"][name]),
            )
            check_signature(signer, message, signature, where=self._where)
        need = masks.threshold_of(len(attempt.names), self._config.rounds.colluding_sites)
        if len(signed) < need:
            raise WireError(f"{len(signed)} sites signed the survivor set, not {need}", where=self._where)
        gone = [name for name in attempt.names if name not in survivors]
        out: dict[str, dict[str, str]] = {}
        for sender in survivors:
            share = self._share_of(attempt, sender, asked["shares"].get(sender, ""))
            if share is not None:
                places = {name: attempt.names.index(name) for name in [sender, *gone]}
                out[sender] = {name: _slice(share, place).hex() for name, place in places.items()}
        return {"shares": out}

    def _share_of(self, attempt: Attempt, sender: str, sealed: str) -> bytes | None:
        if sender == self.name:
            return (self._folder / "own-share.bin").read_bytes()
        try:
            key = AESGCM(self._share_key(attempt, sender, sender))
            share = key.decrypt(_NONCE, bytes.fromhex(sealed), b"")
        except (InvalidTag, ValueError):
            return None
        return share if len(share) == masks.SEED_BYTES * len(attempt.names) else None

    def _require_signed(self, attempt: Attempt, survivors: list[str]) -> None:
        if "masked" not in self._config.rounds.protection:
            return
        label = attempt.label(self._run)
        path = self._folder / "attempts.json"
        used = dict(read_json(path)) if path.exists() else {}
        signed = used.get(label, {}).get("signed")
        if signed is not None and signed != hashlib.sha256(survivor_message(label, survivors)).hexdigest():
            raise WireError("the survivor set differs from the one this site signed", where=self._where)


def used_in_order(used: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Labels of attempts, the newest last: JSON sorts its keys, so the order is kept as a number."""
    return sorted(used, key=lambda label: int(used[label]["number"]))


def _slice(share: bytes, place: int) -> bytes:
    return share[place * masks.SEED_BYTES : (place + 1) * masks.SEED_BYTES]


def _rsa_public(der: str) -> rsa.RSAPublicKey:
    key = serialization.load_der_public_key(bytes.fromhex(der))
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 3072:
        raise WireError("a site's RSA key is too short", where="keys")
    return key
