"""`vault.json`: a vault's id, its roles' public keys and rights, signed by the owner.

Invariant: it holds no secret, and nothing in it is used before the owner's signature was verified. Whoever opens the
vault compares their own public keys with the listed ones, so the owner notices a forged list; README.md says what other
roles can't notice.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from clients.vault.roles import Rights, readers, writers
from common.canonical import canonical
from common.crypto.keys import PublicRole, signer_id
from common.errors import InputError, RunError
from common.files import read_json, write_json

FORMAT = 1
_DOMAIN = b"hansa vault facts 1\n"


@dataclass(frozen=True)
class VaultFacts:
    """A vault's public facts. `past_signers` are signing keys that rotation replaced; the log still needs them."""

    id: str
    roles: dict[str, PublicRole]
    rights: Rights
    past_signers: tuple[str, ...] = field(default=())

    @classmethod
    def new(cls, roles: dict[str, PublicRole], rights: Rights) -> VaultFacts:
        """Facts of a new vault with a random id."""
        return cls(secrets.token_hex(16), roles, rights)

    def recipients(self, kind: str) -> dict[str, RSAPublicKey]:
        """Role → key for all who may read a kind."""
        return {
            role: self.roles[role].encryption for role in readers(self.rights, kind) if role in self.roles
        }

    def signers(self, kind: str) -> dict[str, Ed25519PublicKey]:
        """Signer id → key for all who may write a kind."""
        keys = (self.roles[role].signing for role in writers(self.rights, kind) if role in self.roles)
        return {signer_id(key): key for key in keys}

    def log_signers(self) -> list[Ed25519PublicKey]:
        """All keys that may have signed an entry of the log."""
        past = [Ed25519PublicKey.from_public_bytes(bytes.fromhex(key)) for key in self.past_signers]
        return [role.signing for role in self.roles.values()] + past

    def with_role(self, public: PublicRole) -> VaultFacts:
        """The same facts with a role's keys added or replaced."""
        old = self.roles.get(public.role)
        past = (*self.past_signers, old.signing.public_bytes_raw().hex()) if old else self.past_signers
        return replace(self, roles=self.roles | {public.role: public}, past_signers=past)

    def write(self, path: Path, owner: Ed25519PrivateKey) -> None:
        """Sign and write the facts, whole or not at all."""
        body = self._body()
        write_json(path, body | {"signature": owner.sign(_DOMAIN + canonical(body)).hex()})

    @classmethod
    def read(cls, path: Path) -> VaultFacts:
        """Read and verify a vault's facts.

        Raises
        ------
        InputError : the file is missing, damaged or was edited.
        """
        if not path.is_file():
            raise InputError(
                "there is no vault", where=str(path.parent), next_step="hansa vault init makes one"
            )
        try:
            data = read_json(path)
        except RunError:
            raise _edited(path) from None
        try:
            signature = bytes.fromhex(data.pop("signature"))
            roles = {role: PublicRole.from_dict(role, keys) for role, keys in data["roles"].items()}
            roles["owner"].signing.verify(signature, _DOMAIN + canonical(data))
            if data["format"] != FORMAT:
                raise InputError("the vault has another format", where=str(path))
            return cls(data["id"], roles, data["rights"], tuple(data["past_signers"]))
        except (ValueError, KeyError, TypeError, AttributeError, InvalidSignature):
            raise _edited(path) from None

    def _body(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "id": self.id,
            "roles": {role: public.as_dict() for role, public in self.roles.items()},
            "rights": {role: dict(kinds) for role, kinds in self.rights.items()},
            "past_signers": list(self.past_signers),
        }


def _edited(path: Path) -> InputError:
    return InputError(
        "the vault's list of roles was edited or is damaged", where=str(path),
        next_step="restore it from a backup; the objects can't be read without it",
    )  # fmt: skip
