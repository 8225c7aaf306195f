"""Who may read and write which kind of object: the matrix from `site.toml`, table `[vault.roles]`.

Invariant: who can read is decided by an object's slots, and who can write by the signature on an index; this table says
which slots and signatures there shall be. The owner may always read and write, so no object is lost to everyone.

    [vault.roles.trainer]
    read = ["reviews", "images", "events", "products"]
    write = ["features", "model", "ledger"]        # who writes may read
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from common.errors import ConfigError
from common.schema import did_you_mean

ROLES = ("owner", "trainer", "analyst", "auditor")
KINDS = ("reviews", "images", "events", "products", "features", "model", "ledger", "logs")
Rights = Mapping[str, Mapping[str, str]]
"""Role → kind → "r" or "rw"; anything not listed is forbidden."""

DEFAULT_RIGHTS: Rights = MappingProxyType({
    "trainer": MappingProxyType({
        "reviews": "r", "images": "r", "events": "r", "products": "r",
        "features": "rw", "model": "rw", "ledger": "rw",
    }),
    "analyst": MappingProxyType({"products": "r", "features": "r", "model": "r"}),
    "auditor": MappingProxyType({"model": "r", "ledger": "r", "logs": "r"}),
})  # fmt: skip


def rights_of(table: Mapping[str, Mapping[str, Sequence[str]]]) -> Rights:
    """The matrix from the parsed `[vault.roles]`; a role that isn't named keeps its defaults.

    Raises
    ------
    ConfigError : a role, kind or right isn't known, or the owner is restricted.
    """
    rights = {role: dict(kinds) for role, kinds in DEFAULT_RIGHTS.items()}
    for role, entry in table.items():
        known_role(role)
        if role == "owner":
            raise ConfigError("the owner's rights can't be changed", where="site.toml, vault.roles.owner")
        for right in entry:
            if right not in ("read", "write"):
                raise ConfigError(
                    f"unknown right '{right}'", where=f"vault.roles.{role}", next_step="use read or write"
                )
        readable = {known_kind(kind): "r" for kind in entry.get("read", ())}
        rights[role] = readable | {known_kind(kind): "rw" for kind in entry.get("write", ())}
    return rights


def readers(rights: Rights, kind: str) -> tuple[str, ...]:
    """Roles whose keys open objects of a kind."""
    return ("owner", *sorted(role for role, kinds in rights.items() if kind in kinds))


def writers(rights: Rights, kind: str) -> tuple[str, ...]:
    """Roles that may sign an index of a kind."""
    return ("owner", *sorted(role for role, kinds in rights.items() if kinds.get(kind) == "rw"))


def known_kind(kind: str) -> str:
    """Returns the kind; raises ConfigError if there is none of that name."""
    if kind not in KINDS:
        raise ConfigError(
            f"unknown kind '{kind}'", where="vault", why="the kinds are " + ", ".join(KINDS),
            next_step=did_you_mean(kind, KINDS),
        )  # fmt: skip
    return kind


def known_role(role: str) -> str:
    """Returns the role; raises ConfigError if there is none of that name."""
    if role not in ROLES:
        raise ConfigError(
            f"unknown role '{role}'", where="vault", why="the roles are " + ", ".join(ROLES),
            next_step=did_you_mean(role, ROLES),
        )  # fmt: skip
    return role
