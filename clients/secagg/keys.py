"""A site's own keys, those of its peers, and the league's key of each epoch.

Invariants: in a deployment the contract fixes the peers' public keys, and which site wraps the league's key. A public
key or a league's key that the site once accepted can't be replaced later in the run. Private keys lie in files that
only their owner may read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from common.crypto.container import check_signature, open_container, sign_container
from common.errors import RunError, WireError
from common.files import read_json, write_json, write_whole
from common.he.cipher import Key
from common.he.key_process import key_of
from common.he.schemes import name_of
from common.provision.pinned import Pinned
from common.provision.site_keys import make_keys
from common.secagg.protocol import Attempt, bundle_message, wrap_message
from common.settings.config import LeagueConfig

_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)
_NONCE = bytes(12)  # each data key encrypts one league key only
Bundles = dict[str, dict[str, str]]


class SiteKeys:
    """Keys of one site in one run.

    Parameters
    ----------
    folder : the site's private folder.
    pinned : the keys that the contract fixes; without a contract, as in a simulation, the first keys received are kept.
    """

    def __init__(self, folder: Path, name: str, config: LeagueConfig, pinned: Pinned | None = None) -> None:
        self._folder, self._name, self._run, self._where = folder, name, config.digest(), f"site '{name}'"
        self._rotate_every = config.rounds.rotate_every
        self._scheme, self._pinned = name_of(config.rounds), pinned
        own = self._own()
        self.sign = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(own["ed25519"]))
        self.agree = X25519PrivateKey.from_private_bytes(bytes.fromhex(own["x25519"]))
        self._rsa, self._rsa_public = own["rsa"], own["rsa_public"]

    def offer(self) -> dict[str, Any]:
        """The site's public keys, signed by itself."""
        bundle = {
            "site": self._name,
            "ed25519": self.sign.public_key().public_bytes_raw().hex(),
            "x25519": self.agree.public_key().public_bytes_raw().hex(),
            "rsa": self._rsa_public,
        }
        return {**bundle, "signature": self.sign.sign(bundle_message(self._run, bundle)).hex()}

    def wrap(self, bundles: Bundles, epoch: int) -> dict[str, Any]:
        """As steward: make the league's key of an epoch and wrap it for every site."""
        path = self._folder / f"wrapped-{epoch:04d}.json"
        if path.exists():
            return dict(read_json(path))
        self.pin(bundles)
        secret, key = key_of(self._scheme).secret(), AESGCM.generate_key(256)
        body = {
            "steward": self._name,
            "epoch": epoch,
            "keys": {
                name: _rsa_public(b["rsa"]).encrypt(key, _OAEP).hex() for name, b in sorted(bundles.items())
            },
            "body": AESGCM(key).encrypt(_NONCE, secret, self._label(epoch)).hex(),
        }
        write_json(path, {**body, "signature": self.sign.sign(wrap_message(self._run, body)).hex()})
        return dict(read_json(path))

    def install(self, bundles: Bundles, wrapped: dict[str, Any] | None) -> None:
        """Accept the peers' public keys and, if one is sent, the league's key of an epoch.

        Raises
        ------
        WireError : a key isn't its owner's, was replaced, or isn't wrapped for this site.
        """
        self.pin(bundles)
        if wrapped is None:
            return
        body = {name: value for name, value in wrapped.items() if name != "signature"}
        signer, epoch = bytes.fromhex(bundles[body["steward"]]["ed25519"]), int(body["epoch"])
        signature = bytes.fromhex(wrapped["signature"])
        check_signature(signer, wrap_message(self._run, body), signature, where=self._where)
        try:
            key = self._unwrap(bytes.fromhex(body["keys"][self._name]))
            secret = AESGCM(key).decrypt(_NONCE, bytes.fromhex(body["body"]), self._label(epoch))
        except (InvalidTag, ValueError, KeyError):
            raise WireError("the league's key isn't wrapped to this site", where=self._where) from None
        path = self._path(epoch)
        if path.exists() and path.read_bytes() != secret:
            raise WireError("the coordinator brings another key for the same epoch", where=self._where)
        write_whole(path, secret)

    def pin(self, bundles: Bundles) -> None:
        """Accept bundles of public keys; one that was accepted before can't be replaced later in the run."""
        for name, bundle in bundles.items():
            body = {key: value for key, value in bundle.items() if key != "signature"}
            if body["site"] != name:
                raise WireError("a bundle of keys names another site", where=self._where)
            message, signature = bundle_message(self._run, body), bytes.fromhex(bundle["signature"])
            check_signature(bytes.fromhex(body["ed25519"]), message, signature, where=self._where)
        if self._pinned is not None:
            self._pinned.require(bundles, self._where)
        if bundles.get(self._name) != self.offer():
            raise WireError("the coordinator lists other keys for this site", where=self._where)
        path = self._folder / "peers.json"
        accepted: Bundles = dict(read_json(path)) if path.exists() else {}
        if any(accepted.get(name, bundle) != bundle for name, bundle in bundles.items()):
            raise WireError("the coordinator changed a site's keys within the run", where=self._where)
        # The keys of a site that left are kept, so that it can't come back under others.
        write_json(path, {**accepted, **bundles})

    def peers(self) -> Bundles:
        """The public keys that the site accepted."""
        return dict(read_json(self._folder / "peers.json"))

    def secret(self, epoch: int) -> bytes:
        """The league's secret key of an epoch.

        Raises
        ------
        WireError : this site hasn't received it.
        """
        path = self._path(epoch)
        if not path.exists():
            raise WireError(f"the site has no key of epoch {epoch}", where=self._where)
        return path.read_bytes()

    def he_key(self, epoch: int) -> Key:
        """The same key, ready to encrypt and decrypt."""
        return key_of(self._scheme, self.secret(epoch))

    def use_epoch(self, attempt: Attempt) -> None:
        """Note the round in which an epoch's key is first used.

        Raises
        ------
        WireError : the contract demands a newer key for this round, or the epoch is over.
        """
        path = self._folder / "epochs.json"
        first_rounds: dict[str, int] = dict(read_json(path)) if path.exists() else {}
        began = first_rounds.setdefault(str(attempt.epoch), attempt.round)
        later = any(
            int(epoch) > attempt.epoch and begins <= attempt.round for epoch, begins in first_rounds.items()
        )
        if later or (self._rotate_every and attempt.round - began >= self._rotate_every):
            raise WireError("the league's key is older than the contract allows", where=self._where)
        write_json(path, first_rounds)

    def encrypt_to(self, peer: str, body: bytes, facts: dict[str, str | int]) -> bytes:
        """Encrypt bytes so that only one peer can read them, and sign them.

        Raises
        ------
        WireError : the peer isn't known.
        """
        peers = self.peers()
        if peer not in peers:
            raise WireError("the coordinator names no member", where=self._where)
        key = AESGCM.generate_key(256)
        wrapped = _rsa_public(peers[peer]["rsa"]).encrypt(key, _OAEP)
        stated = {**facts, "from": self._name, "to": peer}
        return sign_container(stated, [wrapped, AESGCM(key).encrypt(_NONCE, body, b"")], self.sign)

    def decrypt_from(self, sender: str, data: bytes, facts: dict[str, str | int]) -> bytes:
        """The inverse of `encrypt_to`, at the peer.

        Raises
        ------
        WireError : it isn't the sender's, or isn't encrypted to this site.
        """
        stated = {**facts, "from": sender, "to": self._name}
        signer = self.peers().get(sender, {}).get("ed25519", "")
        parts = open_container(data, stated, bytes.fromhex(signer), where=self._where)
        try:
            wrapped, body = parts
            return AESGCM(self._unwrap(bytes(wrapped))).decrypt(_NONCE, bytes(body), b"")
        except (InvalidTag, ValueError):
            raise WireError("what a peer sent isn't encrypted to this site", where=self._where) from None

    def _unwrap(self, wrapped: bytes) -> bytes:
        # The file is the site's own, so the check of the RSA key, which takes a tenth of a second, is left out.
        private = serialization.load_pem_private_key(
            self._rsa.encode(), None, unsafe_skip_rsa_key_validation=True
        )
        if not isinstance(private, rsa.RSAPrivateKey):
            raise RunError("the site's key file is damaged", where=str(self._folder))
        return private.decrypt(wrapped, _OAEP)

    def _path(self, epoch: int) -> Path:
        return self._folder / f"league-{epoch:04d}.key"

    def _label(self, epoch: int) -> bytes:
        return f"{self._run}/{epoch}".encode()

    def _own(self) -> dict[str, str]:
        path = self._folder / "keys.json"
        if self._pinned is not None and self._pinned.own is not None:
            path = self._pinned.own
        elif not path.exists():
            write_json(path, make_keys())
        return {str(name): str(value) for name, value in read_json(path).items()}


def _rsa_public(der: str) -> rsa.RSAPublicKey:
    key = serialization.load_der_public_key(bytes.fromhex(der))
    if not isinstance(key, rsa.RSAPublicKey) or key.key_size < 3072:
        raise WireError("a site's RSA key is too short", where="keys")
    return key
