"""A site's kit on the site's own machine: the files that it was given, and `private/`, which nobody else has.

Invariants: the contract is used only with its authority's signature. Two processes never use one kit at the same time.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from common.errors import RunError
from common.files import read_json
from common.provision import kit_files
from common.provision.authority import write_private
from common.provision.contract import FILE, Contract, read_signed


@dataclass(frozen=True)
class Kit:
    """A site's kit.

    Parameters
    ----------
    coordinator : host:port under which the site reaches it.
    """

    folder: Path
    name: str
    coordinator: str

    @classmethod
    def read(cls, folder: Path) -> Kit:
        """Read a kit.

        Raises
        ------
        RunError : it's no kit, or its contract doesn't name the site.
        """
        facts = read_json(folder / kit_files.SITE)
        try:
            kit = cls(folder.resolve(), str(facts["name"]), str(facts["coordinator"]))
        except (KeyError, TypeError):
            raise RunError(
                "the kit is damaged", where=kit_files.SITE, next_step="ask for a new one"
            ) from None
        kit.contract().member(kit.name)
        return kit

    def contract(self) -> Contract:
        """The league's contract.

        Raises
        ------
        RunError : it can't be read, or isn't signed by the kit's authority.
        """
        return read_signed(self.folder)

    @property
    def private(self) -> Path:
        return self.folder / "private"

    @property
    def out(self) -> Path:
        """Where the site keeps its state and results."""
        return self.private / "out"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    def secret(self) -> Path:
        """Make the secret that the SuperNode and its worker share; there is a new one at every start."""
        path = self.private / kit_files.WORKER_SECRET
        path.unlink(missing_ok=True)
        write_private(path, secrets.token_hex(32).encode())
        return path

    def node_config(self, site: Path) -> str:
        """What the site's app learns of where things are, as `flower-supernode` takes it."""
        settings = {
            "site-name": self.name, "site-dir": str(site.resolve()), "out-dir": str(self.out),
            "config-json": str(self.folder / FILE), "keys-file": str(self.private / kit_files.KEYS),
        }  # fmt: skip
        return " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())

    def instance(self) -> str:
        """An id that distinguishes this copy of the kit from others; it stays the same after a restart."""
        stat = self.folder.stat()
        machine = Path("/etc/machine-id")
        parts = [
            machine.read_text().strip() if machine.exists() else "", socket.gethostname(), str(self.folder),
            str(stat.st_dev), str(stat.st_ino),
        ]  # fmt: skip
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]

    @property
    def lock(self) -> Path:
        """The lock file of the process that uses this kit."""
        return self.private / "up.lock"
