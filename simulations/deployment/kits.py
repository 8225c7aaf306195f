"""Write the kits of a league: one folder for the coordinator, one for each site.

Invariants: no kit holds another party's key; what every kit holds (contract, authority's certificate) is equal in all;
`SHA256SUMS` names every file that a kit came with, so a site can tell whether it's whole.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from common.config import LeagueConfig
from common.errors import RunError
from common.provision.authority import Authority, fingerprint, node_key, write_private
from common.provision.contract import FILE, Contract, Member
from common.run_folder import SiteEntry, write_json, write_whole

SUMS = "SHA256SUMS"


def write_kits(
    root: Path, config: LeagueConfig, sites: Sequence[SiteEntry], addresses: Sequence[str], port: int
) -> Contract:
    """Write `authority/`, `coordinator/` and `sites/NAME/` into a new folder.

    Parameters
    ----------
    addresses : names and addresses under which sites reach the coordinator; the first one goes into the kits.
    port : where the coordinator listens for them.

    Raises
    ------
    RunError : the folder already holds kits.
    """
    if (root / "authority").exists():
        raise RunError("the folder already holds kits", where=root.name, next_step="choose another folder")
    authority = Authority.create(config.name)
    nodes = {site.name: node_key() for site in sites}
    clients = {site.name: authority.issue_client(site.name) for site in sites}
    members = tuple(
        Member(
            site.name, nodes[site.name][1].decode().strip(), fingerprint(clients[site.name][0]), site.title,
            site.language, site.region, site.held_out,
        )
        for site in sites
    )  # fmt: skip
    contract = Contract.of_this_code(config, members)
    _private_folder(root / "authority")
    authority.write(root / "authority")
    _write_coordinator(root / "coordinator", contract, authority, addresses, port)
    for name, (node, _) in nodes.items():
        kit = root / "sites" / name
        _begin(kit, contract, authority)
        certificate, key = clients[name]
        write_private(kit / "private" / "node.key", node)
        write_private(kit / "private" / "client.key", key)
        write_whole(kit / "client.crt", certificate)
        write_json(kit / "site.json", {"name": name, "coordinator": f"{addresses[0]}:{port}"})
        write_sums(kit)
    return contract


def write_sums(kit: Path) -> None:
    """Write the checksums of all files of a kit, in the form that `sha256sum -c` reads."""
    files = sorted(path for path in kit.rglob("*") if path.is_file() and path.name != SUMS)
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.relative_to(kit)}\n" for path in files]
    write_whole(kit / SUMS, "".join(lines).encode())


def _write_coordinator(
    kit: Path, contract: Contract, authority: Authority, addresses: Sequence[str], port: int
) -> None:
    _begin(kit, contract, authority)
    names = list(dict.fromkeys([*addresses, "127.0.0.1", "localhost"]))
    certificate, key = authority.issue_server(names)
    write_private(kit / "private" / "server.key", key)
    write_whole(kit / "server.crt", certificate)
    write_json(kit / "coordinator.json", {"addresses": list(addresses), "port": port})
    write_sums(kit)


def _begin(kit: Path, contract: Contract, authority: Authority) -> None:
    _private_folder(kit)
    _private_folder(kit / "private")
    contract.write(kit / FILE)
    write_whole(kit / "ca.crt", authority.pem())


def _private_folder(folder: Path) -> None:
    folder.mkdir(parents=True, mode=0o700)
