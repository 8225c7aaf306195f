"""A site's membership in its league: request a kit, accept a new contract, pause, leave, show the status.

Invariants: private keys are made here or come in the kit, and are destroyed when the site leaves. A contract is
accepted only from the authority that the site trusted first, and never if it's older or promises less.
"""

from __future__ import annotations

import datetime as dt
import os
import re
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cryptography import x509

from clients.supernode.kit import Kit
from common.errors import InputError, RunError
from common.files import read_json, write_json, write_whole
from common.provision import kit_files
from common.provision.contract import FILE, SIGNATURE, Contract, read_signed
from common.provision.site_keys import write_keys
from common.runtime.locks import is_held

PAUSED, ANSWERED = "paused", "answered.json"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_STOP_S = 60.0


def make_request(name: str, kit: Path) -> Path:
    """Make a site's private keys in its future kit; returns the file of the request.

    Raises
    ------
    InputError : the name can't be a site's.
    RunError : the folder has keys already.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"'{name[:40]}' can't be a site's name", where="NAME", next_step="use a-z, 0-9 and -"
        )
    private = kit / "private"
    if (private / kit_files.KEYS).exists():
        raise RunError(
            "the folder has a site's keys already", where=str(private), next_step="choose another folder"
        )
    for folder in (kit, private):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.chmod(0o700)
    path = kit / f"{name}.request.json"
    write_json(path, asdict(write_keys(private, name)))
    return path


@dataclass(frozen=True)
class Changes:
    """What a new edition of the contract changes, in words."""

    edition: int
    before: int
    told: tuple[str, ...]


def accept_contract(folder: Path, file: Path) -> Changes:
    """Replace the kit's contract by a new edition.

    Raises
    ------
    RunError : it's another league's, older, not signed by the kit's authority, or promises less.
    """
    kit = Kit.read(folder)
    old = kit.contract()
    if file.name != FILE:
        raise RunError(f"the file must be called {FILE}", where=file.name)
    new = read_signed(file.parent, authority=kit.folder / kit_files.AUTHORITY)
    if new.league != old.league:
        raise RunError("the contract is of another league", where=file.name)
    if new.edition < old.edition:
        raise RunError(f"the contract is older: edition {new.edition} after {old.edition}", where=file.name)
    new.require_valid(dt.datetime.now(dt.UTC))
    weaker = old.bounds.faults(new.config)
    if weaker:
        raise RunError(
            "the contract breaks what the one before promised", where=file.name, why="; ".join(weaker),
            next_step="ask who provisions the league; to take part all the same, join with a new kit",
        )  # fmt: skip
    own, own_before = new.member(kit.name), old.member(kit.name)
    if own.public_keys() != own_before.public_keys() or own.node_key != own_before.node_key:
        raise RunError("the contract names other keys for this site", where=file.name)
    # The signature first: after a crash in between it doesn't fit the old contract, and accepting again repairs it.
    write_whole(kit.folder / SIGNATURE, (file.parent / SIGNATURE).read_bytes())
    write_whole(kit.folder / FILE, file.read_bytes())
    return Changes(new.edition, old.edition, tuple(_differences(old, new)))


def _differences(old: Contract, new: Contract) -> list[str]:
    before, after = ({member.name: member for member in contract.members} for contract in (old, new))
    differences = [f"New site: {name}" for name in sorted(after.keys() - before.keys())]
    differences += [f"No more in the league: {name}" for name in sorted(before.keys() - after.keys())]
    differences += [
        f"OTHER KEYS for site {name}: ask it whether that is meant"
        for name in sorted(before.keys() & after.keys())
        if before[name].public_keys() != after[name].public_keys()
    ]
    if old.code != new.code:
        differences.append("Other code: install the version that goes with it")
    differences += _other_settings(old.config.model_dump(mode="json"), new.config.model_dump(mode="json"))
    if old.until != new.until:
        differences.append(f"Valid until {new.until or 'further notice'}")
    return differences


def _other_settings(old: dict[str, Any], new: dict[str, Any], place: str = "") -> list[str]:
    changes = []
    for key, value in new.items():
        old_value = old.get(key)
        if isinstance(value, dict) and isinstance(old_value, dict):
            changes += _other_settings(old_value, value, f"{place}{key}.")
        elif old_value != value:
            changes.append(f"{place}{key}: {old_value} → {value}"[:160])
    return changes


@dataclass(frozen=True)
class SiteStatus:
    """The status of a site."""

    site: str
    up: bool
    paused: bool
    coordinator: str
    contract_edition: int
    contract_until: str
    certificate_until: str
    last_answer: str
    refused: str


def read_status(folder: Path) -> SiteStatus:
    """Read a site's status from its kit's files."""
    kit = Kit.read(folder)
    contract = kit.contract()
    certificate = x509.load_pem_x509_certificate((kit.folder / kit_files.CLIENT_CERTIFICATE).read_bytes())
    last, refused = "none yet", ""
    if (kit.logs / ANSWERED).exists():
        sent = read_json(kit.logs / ANSWERED)
        last = f"{sent['asked']} {sent['group']} at {sent['at']}, {sent['outcome']} in {sent['seconds']} s".replace(
            "  ", " "
        )
    if (kit.private / "refusal.json").exists():
        refused = str(read_json(kit.private / "refusal.json")["code"])
    return SiteStatus(
        kit.name, is_held(kit.lock), (kit.private / PAUSED).exists(), kit.coordinator, contract.edition,
        contract.until, str(certificate.not_valid_after_utc.date()), last, refused,
    )  # fmt: skip


def set_pause(folder: Path, paused: bool) -> None:
    """Pause a site, or let it take part again."""
    flag = Kit.read(folder).private / PAUSED
    if paused:
        flag.touch(mode=0o600)
    else:
        flag.unlink(missing_ok=True)


def leave_league(folder: Path) -> list[str]:
    """Stop a site and destroy its keys; returns the names of the destroyed files.

    Raises
    ------
    RunError : it doesn't stop.
    """
    kit = Kit.read(folder)
    if is_held(kit.lock):
        os.kill(int(kit.lock.read_text()), signal.SIGTERM)
        ends = time.monotonic() + _STOP_S
        while is_held(kit.lock):
            if time.monotonic() > ends:
                raise RunError(
                    "the site's processes don't stop", where=kit.name, next_step="stop them, then try again"
                )
            time.sleep(0.2)
    secrets = (kit_files.KEYS, kit_files.NODE_KEY, kit_files.CLIENT_KEY, kit_files.WORKER_SECRET)
    keys = [kit.private / name for name in secrets]
    keys += sorted((kit.out / "private").glob("league-*.key"))
    destroyed = [path for path in keys if path.exists()]
    for path in destroyed:
        with path.open("r+b") as file:  # best effort: journals and flash may keep old blocks
            file.write(bytes(path.stat().st_size))
            file.flush()
            os.fsync(file.fileno())
        path.unlink()
    (kit.folder / kit_files.SITE).rename(kit.folder / "site.left.json")
    return [str(path.relative_to(kit.folder)) for path in destroyed]
