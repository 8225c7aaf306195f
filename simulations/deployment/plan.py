"""The content of `league.toml`: a deployed league's settings, its members, and what is promised to them.

    [coordinator]
    addresses = ["league.example.org", "192.0.2.10"]   # under which sites reach it
    [contract]
    until = "2027-12-31"
    least_protection = "he+masked"
    [[site]]
    name = "lubeck"
    request = "lubeck.request.json"    # where the site makes its own keys
    [rounds]                           # and all other settings of `hansa init`
    protection = "he+masked"

Invariant: the file describes the whole league; `hansa provision` compares it with the kits and makes what is missing.
"""

from __future__ import annotations

import datetime as dt
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from common.errors import ConfigError
from common.provision.contract import Bounds
from common.settings.config import LeagueConfig, Protection, Settings
from common.settings.load import load_config
from common.storage.run_folder import SiteEntry

_OWN = ("coordinator", "contract", "site")


class CoordinatorPlace(Settings):
    """The coordinator's addresses and port."""

    addresses: tuple[str, ...] = Field(
        min_length=1, description="names and addresses; the first goes into the kits"
    )
    port: int = Field(9443, ge=1, le=65535)
    listen: str = Field("0.0.0.0", description="address of its machine that the guard listens on")  # noqa: S104


class ContractTerms(Settings):
    """What the contract promises beside its settings."""

    until: str = ""
    least_protection: Protection = "plain"
    most_epsilon: float = Field(0.0, ge=0, le=50)
    most_rounds: int = Field(0, ge=0)

    @field_validator("until")
    @classmethod
    def _date(cls, value: str) -> str:
        return dt.date.fromisoformat(value).isoformat() if value else ""

    def bounds(self) -> Bounds:
        """As the contract holds them."""
        return Bounds(self.least_protection, self.most_epsilon, self.most_rounds)


class Party(Settings):
    """One site.

    Parameters
    ----------
    request : file that `hansa site request` wrote there; empty if its keys are to be made here.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")
    title: str = ""
    language: str = "en"
    region: str = ""
    held_out: bool = False
    request: str = ""


class LeaguePlan(Settings):
    """The whole file."""

    coordinator: CoordinatorPlace
    contract: ContractTerms = ContractTerms()
    site: tuple[Party, ...] = Field(min_length=1)
    settings: LeagueConfig = LeagueConfig()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        names = [party.name for party in self.site]
        if len(set(names)) != len(names) or "coordinator" in names:
            raise ValueError("two parties have the same name")
        if all(party.held_out for party in self.site):
            raise ValueError("no site is left to train")
        return self


def plan_of(config: LeagueConfig, sites: Sequence[SiteEntry], address: str, port: int) -> LeaguePlan:
    """The plan of a rehearsal, with these sites and a coordinator at one address."""
    parties = tuple(
        Party(
            name=site.name,
            title=site.title,
            language=site.language,
            region=site.region,
            held_out=site.held_out,
        )
        for site in sites
    )
    return LeaguePlan(
        coordinator=CoordinatorPlace(addresses=(address,), port=port, listen=address),
        site=parties,
        settings=config,
    )


def read_plan(path: Path) -> LeaguePlan:
    """Read `league.toml`; paths in it are relative to it.

    Raises
    ------
    ConfigError : it can't be read, or a value can't be used.
    """
    try:
        data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as fault:
        raise ConfigError(
            "the league's file can't be read", where=str(path), why=str(fault.strerror)
        ) from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as fault:
        raise ConfigError("the league's file can't be parsed", where=str(path), why=str(fault)) from None
    settings = load_config(
        {"name": path.stem, **{key: value for key, value in data.items() if key not in _OWN}}
    )
    try:
        plan = LeaguePlan(**{key: data[key] for key in _OWN if key in data}, settings=settings)
    except ValidationError as fault:
        first = fault.errors()[0]
        raise ConfigError(
            "the league's file can't be used", where=f"{path.name}, {'.'.join(str(part) for part in first['loc'])}",
            why=first["msg"], next_step="'hansa provision --example' shows a whole file",
        ) from None  # fmt: skip
    faults = plan.contract.bounds().faults(settings)
    if faults:
        raise ConfigError(
            "the settings break the contract's own bounds", where=str(path), why="; ".join(faults)
        )
    beside = path.resolve().parent
    site = tuple(
        party.model_copy(update={"request": str(beside / party.request)}) if party.request else party
        for party in plan.site
    )
    return plan.model_copy(update={"site": site})
