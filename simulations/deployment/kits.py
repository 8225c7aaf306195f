"""Make the kits of a league, one for the coordinator and one for each site, and keep the list of members.

Invariants: no kit holds another party's key. The contract and the authority's certificate are equal in all kits. Making
kits again changes only what the plan has changed, so if a site is added, renewed or revoked, the others need no new
keys. A revoked name can't be used again.

    OUT/  authority/  coordinator/  sites/NAME/  contract.json  contract.sig  NAME.kit.tar.gz …
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from cryptography import x509

from common.errors import RunError
from common.files import read_json, write_json, write_whole
from common.provision import kit_files
from common.provision.authority import Authority, fingerprint, write_private
from common.provision.code import code_digest, installed_code
from common.provision.contract import FILE, SIGNATURE, Contract, Member
from common.provision.site_keys import Request, new_signer, write_keys
from common.settings.rules import require_cohort
from server.run.receipts import KEY
from simulations.deployment.archive import pack_kit, write_sums
from simulations.deployment.papers import coordinator_papers, site_papers
from simulations.deployment.plan import LeaguePlan, Party

_BOOK = "book.json"


@dataclass
class LeagueBook:
    """The authority's record of the league.

    Parameters
    ----------
    receipts : public key that signs the coordinator's receipts.
    members : by name; requests : each one's request for a certificate; serials : of its certificates so far.
    """

    league: str
    edition: int = 0
    least_edition: int = 1
    members: dict[str, Member] = field(default_factory=dict)
    requests: dict[str, str] = field(default_factory=dict)
    serials: dict[str, list[str]] = field(default_factory=dict)
    revoked: list[str] = field(default_factory=list)
    terms: dict[str, Any] = field(default_factory=dict)
    addresses: list[str] = field(default_factory=list)
    receipts: str = ""

    @classmethod
    def read(cls, path: Path) -> LeagueBook:
        """Read the record, or start a new one if there is none."""
        if not path.exists():
            return cls(secrets.token_hex(8))
        stored = read_json(path)
        return cls(
            **{**stored, "members": {name: Member(**member) for name, member in stored["members"].items()}}
        )

    def revoked_serials(self) -> list[int]:
        """Serial numbers of all certificates of revoked sites."""
        return [int(serial, 16) for name in self.revoked for serial in self.serials.get(name, [])]


@dataclass(frozen=True)
class Provisioned:
    """The result of provisioning.

    Parameters
    ----------
    authority : SHA-256 of the authority's certificate, which sites should get over another channel.
    archives : kits that are new, to be handed over.
    """

    folder: Path
    edition: int
    authority: str
    sites: tuple[str, ...]
    added: tuple[str, ...]
    renewed: tuple[str, ...]
    revoked: tuple[str, ...]
    archives: tuple[Path, ...]


def provision(
    plan: LeaguePlan, root: Path, *, renew: Collection[str] = (), revoke: Collection[str] = (),
    authority: Authority | None = None,
) -> Provisioned:  # fmt: skip
    """Make or update the kits in a folder according to the plan.

    Raises
    ------
    RunError : a name is unknown or was revoked, or a site is missing from the plan.
    ConfigError : there are more sites than one sum carries.
    """
    require_cohort(plan.settings, sum(not party.held_out for party in plan.site))
    place = root / "authority"
    authority = authority or _authority(place, plan.settings.name)
    book = LeagueBook.read(place / _BOOK)
    _require_names(plan, book, renew, revoke)
    book.revoked += [name for name in revoke if name not in book.revoked]
    for name in revoke:
        book.members.pop(name, None)
    added, renewed = [], []
    for party in plan.site:
        if party.name in book.revoked:
            continue
        if party.name not in book.members:
            added.append(party.name)
        elif party.name in renew:
            renewed.append(party.name)
        else:
            _describe(book, party)
            continue
        _enrol(book, party, authority, root / "sites" / party.name)
    signs_anew = not book.receipts
    if signs_anew:
        book.receipts = new_signer(_private_folder(root / "coordinator") / "receipts" / KEY)
    contract = _contract(plan, book, rekeyed=bool(added))
    renews = signs_anew or "coordinator" in renew
    desk = _Desk(plan, book, authority, root)
    packed = desk.write(contract, {*added, *renewed}, renew_server=renews)
    write_json(place / _BOOK, asdict(book))
    return Provisioned(
        root, contract.edition, fingerprint(authority.pem()), tuple(book.members), tuple(added), tuple(renewed),
        tuple(revoke), tuple(packed),
    )  # fmt: skip


def _authority(place: Path, name: str) -> Authority:
    if (place / "ca.key").exists():
        return Authority.read(place)
    _private_folder(place)
    authority = Authority.create(name)
    authority.write(place)
    return authority


def _require_names(
    plan: LeaguePlan, book: LeagueBook, renew: Collection[str], revoke: Collection[str]
) -> None:
    planned = {party.name for party in plan.site}
    unknown = [name for name in {*renew, *revoke} - {"coordinator"} if name not in book.members]
    if unknown:
        raise RunError(f"the league has no site '{sorted(unknown)[0]}'", where="--renew, --revoke")
    missing = sorted(set(book.members) - planned - set(revoke))
    if missing:
        raise RunError(
            f"site '{missing[0]}' is in the league, but not in the file", where="[[site]]",
            why="leaving it out by mistake would cut it off",
            next_step=f"put it back, or say that it goes: --revoke {missing[0]}",
        )  # fmt: skip
    if not set(book.members) - set(revoke) and not planned - set(book.revoked) - set(revoke):
        raise RunError("no site would be left", where="--revoke")


def _enrol(book: LeagueBook, party: Party, authority: Authority, kit: Path) -> None:
    """Issue a site's certificate, for its own request or for keys that are made here."""
    before = book.members.get(party.name)
    if party.request:
        request = Request.read(Path(party.request))
        if request.name != party.name:
            raise RunError(f"the request is of '{request.name}', not '{party.name}'", where=party.request)
    elif before is None:
        request = write_keys(kit / "private", party.name)
    else:
        request = Request(
            party.name, before.node_key, book.requests[party.name], before.sign, before.agree, before.wrap
        )
    certificate = authority.issue_client(party.name, request.certificate.encode())
    kit.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_whole(kit / kit_files.CLIENT_CERTIFICATE, certificate)
    serial = x509.load_pem_x509_certificate(certificate).serial_number
    book.serials.setdefault(party.name, []).append(f"{serial:x}")
    book.requests[party.name] = request.certificate
    member = Member(
        party.name, request.node_key, fingerprint(certificate), request.sign, request.agree, request.wrap,
        former=before.certificate if before else "",
    )  # fmt: skip
    if before is not None and member.public_keys() != before.public_keys():
        raise RunError(
            f"the request of '{party.name}' has other keys than before", where=party.request,
            why="its peers hold to the first ones within a run",
            next_step="revoke the site, and add it under a new name",
        )  # fmt: skip
    book.members[party.name] = member
    _describe(book, party)


def _describe(book: LeagueBook, party: Party) -> None:
    book.members[party.name] = replace(
        book.members[party.name], title=party.title, language=party.language, region=party.region,
        held_out=party.held_out,
    )  # fmt: skip


def _contract(plan: LeaguePlan, book: LeagueBook, *, rekeyed: bool) -> Contract:
    """The contract's next edition if anything has changed, else the present one."""
    code = code_digest(installed_code())
    terms = {
        "settings": plan.settings.digest(), "code": code, "until": plan.contract.until,
        "bounds": asdict(plan.contract.bounds()),
        "members": {name: asdict(member) for name, member in book.members.items()}, "receipts": book.receipts,
    }  # fmt: skip
    # Who holds an older edition lacks the keys of new members, or works under other settings.
    breaks = rekeyed or any(
        terms[part] != book.terms.get(part) for part in ("settings", "code", "bounds", "receipts")
    )
    if json.loads(json.dumps(terms)) != book.terms:
        book.edition += 1
        book.least_edition = book.edition if breaks else book.least_edition
        book.terms = terms
    return Contract(
        plan.settings, code, tuple(book.members[name] for name in sorted(book.members)), book.league, book.edition,
        book.least_edition, plan.contract.until, plan.contract.bounds(), book.receipts,
    )  # fmt: skip


@dataclass(frozen=True)
class _Desk:
    """What all kits are written from: the plan, the authority's keys and book, and the folder that the kits lie in."""

    plan: LeaguePlan
    book: LeagueBook
    authority: Authority
    root: Path

    def write(self, contract: Contract, fresh: Collection[str], *, renew_server: bool) -> list[Path]:
        """Write contract and list of the revoked into all folders, and what is new into its own; the new archives."""
        plan, book, authority, root = self.plan, self.book, self.authority, self.root
        contract.write(root / FILE)
        signature = authority.sign((root / FILE).read_bytes()).hex().encode()
        write_whole(root / SIGNATURE, signature + b"\n")
        packed = []
        coordinator = root / "coordinator"
        addresses = list(dict.fromkeys([*plan.coordinator.addresses, "127.0.0.1", "localhost"]))
        if addresses != book.addresses or renew_server:
            _write_coordinator(coordinator, authority, addresses)
            book.addresses = addresses
            packed.append("coordinator")
        write_json(
            coordinator / kit_files.COORDINATOR,
            {"listen": plan.coordinator.listen, "port": plan.coordinator.port},
        )
        write_whole(coordinator / kit_files.REVOKED, authority.revocations(book.revoked_serials()))
        for kit in (coordinator, *(root / "sites" / name for name in book.members)):
            kit.mkdir(parents=True, exist_ok=True, mode=0o700)
            write_whole(kit / kit_files.AUTHORITY, authority.pem())
            for name in (FILE, SIGNATURE):
                write_whole(kit / name, (root / name).read_bytes())
        for name in fresh:
            kit = root / "sites" / name
            reached = f"{plan.coordinator.addresses[0]}:{plan.coordinator.port}"
            write_json(kit / kit_files.SITE, {"name": name, "coordinator": reached})
            site_papers(kit, plan, name)
            packed.append(name)
        coordinator_papers(coordinator, plan)
        archives = []
        for name in packed:
            kit = coordinator if name == "coordinator" else root / "sites" / name
            write_sums(kit)
            archives.append(pack_kit(kit, root / f"{name}.kit.tar.gz", authority))
        return archives


def _write_coordinator(kit: Path, authority: Authority, addresses: list[str]) -> None:
    certificate, key = authority.issue_server(addresses)
    _private_folder(kit)
    (kit / "private" / kit_files.SERVER_KEY).unlink(missing_ok=True)
    write_private(kit / "private" / kit_files.SERVER_KEY, key)
    write_whole(kit / kit_files.SERVER_CERTIFICATE, certificate)


def _private_folder(folder: Path) -> Path:
    """Make a folder that only its owner can enter; returns the folder for secrets in it."""
    for path in (folder, folder / "private") if folder.name != "authority" else (folder,):
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.chmod(0o700)
    return path
