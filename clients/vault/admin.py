"""The owner's actions on a whole vault: grant, revoke, rotate, verify, export.

Invariants: rights are written first and slots afterwards, so a command that was killed is finished by running it again.
A grant or a rotation rewrites headers only. A revocation seals all objects of the kind anew under new data keys, since
whoever could read them may have kept the old keys.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.vault.facts import VaultFacts
from clients.vault.index import INDEX_FILE, context
from clients.vault.roles import KINDS, known_kind, known_role
from clients.vault.store import FACTS_FILE, LOG_FILE, Vault
from common.audit import Receipt, verify
from common.crypto.envelope import EnvelopeError, reslot, slots_of
from common.crypto.header import fingerprint
from common.crypto.keys import PublicRole, RoleKey
from common.errors import ConfigError, InputError


@dataclass(frozen=True)
class VaultCheck:
    """The result of `verify_vault`; `kinds` are those that the role may read, `damaged` lists kind and file."""

    kinds: tuple[str, ...]
    objects: int
    plain_bytes: int
    entries: int
    damaged: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether everything is whole."""
        return not self.damaged


def grant(vault: Vault, role: str, kind: str, *, write: bool = False) -> int:
    """Let a role read (and write) a kind; returns how many headers were rewritten.

    Raises
    ------
    ConfigError : the role or kind isn't known, or the vault wasn't opened with the owner's key.
    """
    return _change_rights(vault, role, kind, "rw" if write else "r")


def revoke(vault: Vault, role: str, kind: str) -> int:
    """Take away a role's right to a kind and seal the kind's content anew; returns how many files were sealed.

    Raises
    ------
    ConfigError : as `grant`.
    """
    return _change_rights(vault, role, kind, None)


def rotate(vault: Vault, new: RoleKey | PublicRole) -> int:
    """Replace a role's keys, or add a role that had none; returns how many headers were rewritten.

    Raises
    ------
    ConfigError : the keys are the owner's, which can only be replaced by exporting into a new vault.
    InputError : a role of the vault has these keys, or had them before.
    """
    _need_owner(vault)
    public = new.public() if isinstance(new, RoleKey) else new
    if known_role(public.role) == "owner":
        raise ConfigError(
            "the owner's keys can't be rotated in place", next_step="make a new vault and copy the content"
        )
    listed = vault.facts.roles.get(public.role)
    # If the keys are listed already, a rotation that was killed before its headers were written continues here.
    fresh = listed is None or listed.as_dict() != public.as_dict()
    if fresh:
        _refuse_known(vault, public)
    vault.log.append("rotate", {"role": public.role})
    # The owner must sign the indexes that the old key signed, before that key is removed.
    for kind in KINDS:
        if (vault.folder / kind).exists():
            with vault.changing(kind):
                pass
    if fresh:
        _write_facts(vault, vault.facts.with_role(public))
    return sum(settle(vault, kind) for kind in KINDS)


def _refuse_known(vault: Vault, public: PublicRole) -> None:
    """Refuse a key that any role has or had: it would open another role's objects, or bring back a removed key."""
    past = set(vault.facts.past_signers)
    for role, listed in vault.facts.roles.items():
        if listed.encryption.public_numbers() == public.encryption.public_numbers() or (
            listed.signing.public_bytes_raw() == public.signing.public_bytes_raw()
        ):
            raise InputError(
                "the new keys are in use already", where=f"role {role}",
                why="each role has keys of its own", next_step="let rotate make a new key file",
            )  # fmt: skip
    if public.signing.public_bytes_raw().hex() in past:
        raise InputError("the new keys were in use before", next_step="let rotate make a new key file")


def settle(vault: Vault, kind: str) -> int:
    """Make all slots of a kind's files agree with the rights; returns how many files were changed.

    A file with a slot too many is sealed anew; a file with a missing or outdated slot gets only a new header.
    """
    expected = {role: fingerprint(key) for role, key in vault.facts.recipients(kind).items()}
    folder, changed = vault.folder / kind, 0
    if not (folder / INDEX_FILE).exists():
        return 0
    with vault.changing(kind) as index:
        for file, names in index.residents().items():
            slots = slots_of(folder / file)
            if set(slots) - set(expected):
                vault.reseal(kind, index, file, names)
            elif slots != expected:
                _reslot(vault, kind, file)
            changed += slots != expected
    return changed


def verify_vault(vault: Vault, receipt: Receipt | None = None) -> VaultCheck:
    """Open every object that this role may read, to the last segment, and the log to its first entry.

    Raises
    ------
    AuditError : the log was edited or cut.
    """
    entries = verify(vault.folder / LOG_FILE, vault.facts.log_signers(), receipt)
    sequences = {entry.facts["kind"]: entry.facts["sequence"] for entry in entries if entry.kind == "write"}
    damaged, count, size = [], 0, 0
    kinds = _readable(vault)
    for kind in kinds:
        try:
            index = vault.index(kind)
        except EnvelopeError:
            damaged.append(f"{kind}/{INDEX_FILE}")
            continue
        # A write killed between log entry and index leaves the log one ahead; after a rollback it is further ahead.
        if int(str(sequences.get(kind, 0))) > index.sequence + 1:
            damaged.append(f"{kind}/{INDEX_FILE} is older than the log says")
        for file in index.objects:
            try:
                size += sum(len(part) for part in vault.sealed(kind, file).stream())
                count += 1
            except EnvelopeError:
                damaged.append(f"{kind}/{file}")
    return VaultCheck(tuple(kinds), count, size, len(entries), tuple(damaged))


def export(vault: Vault, kind: str, name: str, target: Path) -> int:
    """Write one object in clear to a file of mode 0600, whole or not at all; returns its bytes.

    Raises
    ------
    InputError : the file exists, or there is no such object.
    EnvelopeError : the object can't be opened.
    """
    if target.exists():
        raise InputError("the file exists already", where=str(target))
    vault.size(kind, name)
    vault.log.append("export", {"kind": kind, "role": vault.role})
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as fault:
        raise InputError(
            "the file can't be written",
            where=str(target),
            why=str(fault.strerror),
            next_step="name another one",
        ) from None
    try:
        with os.fdopen(handle, "wb") as stream:
            count = sum(stream.write(part) for part in vault.open_stream(kind, name))
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return count


def _change_rights(vault: Vault, role: str, kind: str, right: str | None) -> int:
    _need_owner(vault)
    if known_role(role) == "owner":
        raise ConfigError("the owner's rights can't be changed")
    known_kind(kind)
    vault.log.append("grant" if right else "revoke", {"role": role, "kind": kind, "right": right})
    # The role may have signed the kind's index: replace its signature by the owner's while it's still accepted.
    if (vault.folder / kind).exists():
        with vault.changing(kind):
            pass
    rights = {other_role: dict(kinds) for other_role, kinds in vault.facts.rights.items()}
    mine = rights.setdefault(role, {})
    if right is None:
        mine.pop(kind, None)
    else:
        mine[kind] = right
    _write_facts(vault, VaultFacts(vault.facts.id, vault.facts.roles, rights, vault.facts.past_signers))
    return settle(vault, kind)


def _write_facts(vault: Vault, facts: VaultFacts) -> None:
    facts.write(vault.folder / FACTS_FILE, vault.key.signing)
    vault.facts = facts


def _reslot(vault: Vault, kind: str, file: str) -> None:
    reslot(
        vault.path_of(kind, file), vault.key.encryption, vault.facts.recipients(kind),
        context=context(vault.facts.id, kind, file),
    )  # fmt: skip


def _need_owner(vault: Vault) -> None:
    if vault.role != "owner":
        raise ConfigError(
            "only the owner can do this", where=f"role {vault.role}", next_step="use the owner's key"
        )


def _readable(vault: Vault) -> list[str]:
    mine: Mapping[str, str] = (
        dict.fromkeys(KINDS, "r") if vault.role == "owner" else vault.facts.rights.get(vault.role, {})
    )
    return [kind for kind in KINDS if kind in mine]
