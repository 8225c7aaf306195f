"""The contract: what all parties of a league across machines have agreed on, one JSON file, equal at all of them.

Invariants: it holds the settings with their digest and the digest of the code, so a run under other settings or
other code is refused by every site; it holds no secret. Its first two fields are those of a run's `config.json`,
so the apps read their settings from it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from common.config import LeagueConfig
from common.errors import RunError
from common.provision.code import code_digest, installed_code
from common.run_folder import SiteEntry, read_config, read_json, write_json

FILE = "contract.json"
_VERSION = 1


@dataclass(frozen=True)
class Member:
    """One site of the contract.

    Parameters
    ----------
    node_key : public key of its Flower node, in OpenSSH's form.
    certificate : SHA-256 of the certificate that it shows the coordinator; empty for none.
    """

    name: str
    node_key: str
    certificate: str = ""
    title: str = ""
    language: str = "en"
    region: str = ""
    held_out: bool = False

    def entry(self) -> SiteEntry:
        """The same as a run folder lists it; its folder is its own affair."""
        return SiteEntry(self.name, self.title or self.name, "", self.language, self.region, self.held_out)


@dataclass(frozen=True)
class Contract:
    """Settings, code and members of a league."""

    config: LeagueConfig
    code: str
    members: tuple[Member, ...]

    @classmethod
    def of_this_code(cls, config: LeagueConfig, members: tuple[Member, ...]) -> Contract:
        """A contract for the Hansa that is installed here."""
        return cls(config, code_digest(installed_code()), members)

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        write_json(
            path,
            {
                "digest": self.config.digest(), "settings": self.config.model_dump(mode="json"),
                "version": _VERSION, "code": self.code, "members": [asdict(each) for each in self.members],
            },
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Read a contract.

        Raises
        ------
        RunError : the file is missing, damaged or of another version of Hansa.
        """
        config, data = read_config(path), read_json(path)
        try:
            if data["version"] != _VERSION:
                raise ValueError
            return cls(config, str(data["code"]), tuple(Member(**each) for each in data["members"]))
        except (KeyError, TypeError, ValueError):
            raise RunError(
                "the contract is damaged or of another version", where=path.name,
                next_step="ask the coordinator for a fresh kit",
            ) from None  # fmt: skip

    def require_code(self) -> None:
        """Refuse to run under a contract that was made for other code.

        Raises
        ------
        RunError : the installed Hansa isn't the contract's.
        """
        if code_digest(installed_code()) != self.code:
            raise RunError(
                "the installed Hansa isn't the one that the contract names", where=FILE,
                why="a league trusts one version of the code, and all its sites run the same",
                next_step="install the contract's version, or ask the coordinator for a new contract",
            )  # fmt: skip
