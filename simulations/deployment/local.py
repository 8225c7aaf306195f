"""A rehearsal: a whole league with separate processes on this machine, from keys to a released model.

Invariants: every party gets only what its kit holds. All processes have ended when the call returns. It returns only if
a model was released.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import MachineError, RunError
from common.files import read_lines
from common.provision.contract import FILE, Contract
from common.runtime.processes import Child, free_port, stop
from common.storage.run_folder import RunFolder, SiteEntry
from server.superlink.commands import await_model, order_run
from server.superlink.front import Front
from server.superlink.orders import Post
from simulations.deployment.kits import provision
from simulations.deployment.plan import plan_of
from simulations.deployment.progress import sentence_of
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import Setting, SimulateOptions

SMALL: dict[str, Setting] = {"held_out": 0, "users_per_site": 60, "items_per_site": 80}
"""A bazaar that one machine prepares and trains in seconds."""
_LOOK_S = 0.25
_START_S = 90.0
_LONGEST_S = 1800.0


@dataclass(frozen=True)
class Rehearsal:
    """The result of a rehearsal.

    Parameters
    ----------
    round_s : seconds of each round, by the coordinator's clock.
    seconds : of the whole, from keys to the last process' end.
    forced : processes that didn't end when asked.
    """

    folder: Path
    release: Path
    sites: tuple[str, ...]
    rounds: int
    protection: str
    round_s: tuple[float, ...]
    bytes_up: int
    bytes_down: int
    seconds: float
    forced: tuple[str, ...]


Tell = Callable[[str], None]


@dataclass(frozen=True)
class Cast:
    """Who plays in a rehearsal, and for how long.

    Parameters
    ----------
    settings : of the league, by dotted name, beside the ones of a rehearsal.
    """

    sites: int
    rounds: int
    protection: str
    seed: int
    settings: Mapping[str, Setting]


def rehearse(folder: Path, cast: Cast, tell: Tell) -> Rehearsal:
    """Provision a league of bazaar sites, start it, wait for its model, and stop it.

    Raises
    ------
    HansaError : no model was released; the folder keeps logs and state.
    """
    began = time.monotonic()
    league = LocalLeague.provision(folder, cast)
    tell(f"Provisioned {cast.sites} sites; starting the coordinator and the sites.")
    try:
        league.start()
        league.await_model(tell)
    finally:
        forced = league.stop()
    tell("All processes have ended.")
    lines = read_lines(league.run.rounds_file)
    return Rehearsal(
        folder, league.run.release, tuple(site.name for site in league.sites), len(lines), cast.protection,
        tuple(float(line["seconds"]) for line in lines),
        sum(int(line["bytes"]["up"]) for line in lines), sum(int(line["bytes"]["down"]) for line in lines),
        round(time.monotonic() - began, 3), tuple(forced),
    )  # fmt: skip


class LocalLeague:
    """Kits, sites' data and processes of one league on this machine."""

    keeper = "server.superlink.supervisor"
    """The module that keeps the coordinator up."""
    front: Front = "guard"
    """What stands before it; with "none", the SuperLink listens on `link_port`."""
    link_port = 0

    def __init__(self, folder: Path, sites: list[SiteEntry]) -> None:
        self.folder, self.sites = folder, sites
        self.kits = folder / "kits"
        self.run = RunFolder(self.kits / "coordinator" / "run")
        self.children: dict[str, Child] = {}
        self.coordinator: Child | None = None

    @classmethod
    def provision(cls, folder: Path, cast: Cast) -> LocalLeague:
        """Derive sites of a bazaar and write everybody's kit."""
        options = SimulateOptions(
            run=folder, rounds=cast.rounds, seed=cast.seed, compare=False, report=False, quiet=True,
            # Small sites, and models that can be told from each other: privacy is off unless it's asked for.
            overrides={
                "privacy.mode": "off", "rounds.protection": cast.protection, "rounds.deadline_s": 300.0,
                **cast.settings,
            },
            data_overrides={"n_sites": cast.sites, **SMALL},
        )  # fmt: skip
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        run, config = create_run(options, plan_config(options))
        provision(plan_of(config, run.sites(), "127.0.0.1", free_port()), folder / "kits")
        return cls(folder, run.sites())

    @property
    def kit(self) -> Path:
        """The coordinator's kit."""
        return self.kits / "coordinator"

    @property
    def contract(self) -> Contract:
        """What all parties have agreed on."""
        return Contract.read(self.kit / FILE)

    def start(self) -> None:
        """Start the coordinator, then the sites."""
        self.start_coordinator()
        for site in self.sites:
            self.start_site(site)

    def start_coordinator(self) -> None:
        """Start the coordinator's processes and wait until it takes orders.

        Raises
        ------
        MachineError : it ended, or took too long.
        """
        arguments = ["-m", self.keeper, str(self.kit), "--front", self.front, "--port", str(self.link_port)]
        self.coordinator = Child.start("coordinator", arguments, self.kit / "logs" / "up.log")
        ends = time.monotonic() + _START_S
        while not Post(self.kit).is_up():
            if not self.coordinator.runs() or time.monotonic() > ends:
                raise MachineError(
                    "the coordinator didn't start", where=self.folder.name, why=self.coordinator.tail()
                )
            time.sleep(_LOOK_S)

    def start_site(self, site: SiteEntry) -> None:
        """Start one site's processes."""
        kit = self.kits / "sites" / site.name
        arguments = ["-m", "clients.supernode.supervisor", str(kit), "--site", site.folder]
        self.children[site.name] = Child.start(f"site '{site.name}'", arguments, kit / "logs" / "site.log")

    def await_model(self, tell: Tell) -> None:
        """Order the run and wait until its model is released.

        Raises
        ------
        HansaError : it ended without one.
        """
        order = order_run(self.kit)
        tell("The run has begun; the first message opens the sites' data.")
        shown, ends = 0, time.monotonic() + _LONGEST_S

        def look() -> None:
            nonlocal shown
            lines = read_lines(self.run.rounds_file)
            for line in lines[shown:]:
                tell(sentence_of(line))
            shown = len(lines)
            self._require_sites()
            if time.monotonic() > ends:
                raise RunError("the rehearsal took too long", where=self.folder.name)

        await_model(self.kit, order, look)
        tell("A model was released.")

    def stop(self) -> list[str]:
        """End all processes; returns the names of those that had to be forced."""
        forced = stop(list(self.children.values()), polite_s=20.0)
        return forced + (stop([self.coordinator], polite_s=25.0) if self.coordinator else [])

    def _require_sites(self) -> None:
        if any(child.runs() for child in self.children.values()):
            return
        first = next(iter(self.children.values()))
        raise RunError("all sites have ended", where=self.folder.name, why=first.tail())
