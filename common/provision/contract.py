"""The contract: what all parties of a deployed league have agreed on, in one JSON file that is equal at all of them.

Invariants: it holds the settings with their digest, the digest of the code and everybody's public keys, so every site
refuses a run under other settings, code or keys. It holds no secret. The league's authority has signed its bytes
(`contract.sig`). Its first two fields are those of a run's `config.json`, so the apps read their settings from it.
Editions are numbered upwards: a site never goes back to an older one.
"""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.errors import RunError
from common.files import read_json, write_json
from common.provision import kit_files
from common.provision.authority import check_signature
from common.provision.code import code_digest, installed_code
from common.settings.config import LeagueConfig
from common.storage.run_folder import SiteEntry, read_config

FILE, SIGNATURE = "contract.json", "contract.sig"
_FORMAT = 3
# Ordered from the protection that shows the coordinator most to the one that shows it least.
_STRENGTH = ("plain", "masked", "ckks", "he", "he+masked")
PublicKeys = dict[str, str]


@dataclass(frozen=True)
class Member:
    """One site of the contract.

    Parameters
    ----------
    node_key : public key of its Flower node, in OpenSSH's form.
    certificate : SHA-256 of the certificate that it shows the coordinator.
    sign, agree, wrap : public halves of the keys that sign its updates (Ed25519), agree on masks (X25519) and receive
        the league's key (RSA, DER), in hex.
    former : the certificate before the last renewal, which the site may still use until it expires.
    """

    name: str
    node_key: str
    certificate: str
    sign: str
    agree: str
    wrap: str
    title: str = ""
    language: str = "en"
    region: str = ""
    held_out: bool = False
    former: str = ""

    def entry(self) -> SiteEntry:
        """The site as a run folder lists it, without its folder, which only the site knows."""
        return SiteEntry(self.name, self.title or self.name, "", self.language, self.region, self.held_out)

    def public_keys(self) -> PublicKeys:
        """Its keys by the names that the protections' protocol uses."""
        return {"ed25519": self.sign, "x25519": self.agree, "rsa": self.wrap}


@dataclass(frozen=True)
class Bounds:
    """The promises that the league's settings must keep, in this edition and any later one.

    Parameters
    ----------
    least_protection : updates are sent under this protection, or one that shows the coordinator less.
    most_epsilon : differential privacy is on, with at most this ε; 0 for no such promise.
    most_rounds : the most rounds of one run; 0 for any number.
    """

    least_protection: str = "plain"
    most_epsilon: float = 0.0
    most_rounds: int = 0

    def faults(self, config: LeagueConfig) -> list[str]:
        """The promises that settings break, in words."""
        shortfalls = []
        if _STRENGTH.index(config.rounds.protection) < _STRENGTH.index(self.least_protection):
            shortfalls.append(
                f"protection is {config.rounds.protection}, and at least {self.least_protection} is promised"
            )
        privacy = config.privacy
        if self.most_epsilon and (privacy.mode == "off" or privacy.epsilon > self.most_epsilon):
            shortfalls.append(f"an epsilon of at most {self.most_epsilon:g} is promised")
        if self.most_rounds and config.rounds.count > self.most_rounds:
            shortfalls.append(f"{config.rounds.count} rounds, and at most {self.most_rounds} are promised")
        return shortfalls


@dataclass(frozen=True)
class Contract:
    """Settings, code and members of a league.

    Parameters
    ----------
    league : random name of the league, the same in all its editions.
    edition : counts up with every change.
    least_edition : the oldest edition whose holders may still take part; it rises when members' keys are added.
    until : last day of the contract, ISO date in UTC; empty for no end.
    receipts : public key (Ed25519, hex) for the coordinator's signed receipts of the sites' privacy ledgers.
    """

    config: LeagueConfig
    code: str
    members: tuple[Member, ...]
    league: str = ""
    edition: int = 1
    least_edition: int = 1
    until: str = ""
    bounds: Bounds = Bounds()
    receipts: str = ""

    def write(self, path: Path) -> None:
        """Write the file whole or not at all."""
        scalars = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("config", "members", "bounds")
        }
        write_json(
            path,
            {
                "digest": self.config.digest(), "settings": self.config.model_dump(mode="json"),
                "format": _FORMAT, "members": [asdict(member) for member in self.members],
                "bounds": asdict(self.bounds), **scalars,
            },
        )  # fmt: skip

    @classmethod
    def read(cls, path: Path) -> Contract:
        """Read a contract; its signature, validity and code are checked by other functions.

        Raises
        ------
        RunError : the file is missing, damaged or of another version of Hansa.
        """
        config, data = read_config(path), read_json(path)
        try:
            if data["format"] != _FORMAT:
                raise ValueError
            return cls(
                config, str(data["code"]), tuple(Member(**member) for member in data["members"]), str(data["league"]),
                int(data["edition"]), int(data["least_edition"]), str(data["until"]), Bounds(**data["bounds"]),
                str(data["receipts"]),
            )  # fmt: skip
        except (KeyError, TypeError, ValueError):
            raise RunError(
                "the contract is damaged or of another version", where=path.name,
                next_step="ask the coordinator for a fresh kit",
            ) from None  # fmt: skip

    def member(self, name: str) -> Member:
        """The site of this name.

        Raises
        ------
        RunError : there is none.
        """
        for member in self.members:
            if member.name == name:
                return member
        raise RunError(
            f"the contract doesn't name site '{name}'", where=FILE,
            why="it never did, or the site has left the league", next_step="ask who provisions the league",
        )  # fmt: skip

    def public_keys(self) -> dict[str, PublicKeys]:
        """Everybody's keys, by site."""
        return {member.name: member.public_keys() for member in self.members}

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
                next_step="install the version that the contract was made with; or let 'hansa provision' make the next "
                "edition, which a site takes with 'hansa site accept'",
            )  # fmt: skip

    def require_valid(self, now: dt.datetime) -> None:
        """Refuse a contract that has expired or whose settings break its own bounds.

        Raises
        ------
        RunError : the contract isn't valid.
        """
        if self.until and now.date() > dt.date.fromisoformat(self.until):
            raise RunError(
                f"the contract ended on {self.until}",
                where=FILE,
                next_step="ask for the league's next edition",
            )
        faults = self.bounds.faults(self.config)
        if faults:
            raise RunError(
                "the contract's settings break its own bounds", where=FILE, why="; ".join(faults),
                next_step="don't take part; ask who provisions the league",
            )  # fmt: skip


def read_signed(folder: Path, *, authority: Path | None = None) -> Contract:
    """Read the contract of a kit and check its signature.

    Parameters
    ----------
    authority : certificate of the league's authority; the kit's own unless given.

    Raises
    ------
    RunError : it can't be read, or the league's authority didn't sign it.
    """
    contract = Contract.read(folder / FILE)
    try:
        signature = bytes.fromhex((folder / SIGNATURE).read_text().strip())
    except (OSError, ValueError):
        signature = b""
    check_signature(
        (authority or folder / kit_files.AUTHORITY).read_bytes(),
        (folder / FILE).read_bytes(),
        signature,
        FILE,
    )
    return contract
