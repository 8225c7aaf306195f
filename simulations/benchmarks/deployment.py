"""`hansa bench deployment`: a league of real processes, beside the same league with Flower's own SuperNodes.

    python -m simulations.benchmarks.deployment --sites 8 --rounds 2 --kinds stock        # a part of it

Both have the same coordinator's app, data and settings, over TLS on this machine, one after the other in one run. Ours
has one process per site, which imports once; Flower's unchanged SuperNode starts a new process for every message. Only
rounds after the first count, since the first one opens each site's data in both. Invariant: both leagues release the
same model, bit for bit, or there is no ratio; rows hold its digest, so that separate measurements can be compared.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from clients.supernode.kit import Kit
from common.errors import HansaError, RunError
from common.files import read_json, read_lines
from common.provision import kit_files
from common.runtime.processes import Child, free_port, stop
from common.storage.run_folder import SiteEntry
from server.superlink.commands import await_model, order_run
from server.superlink.orders import ADDRESS, Post
from simulations.benchmarks import BenchResult
from simulations.deployment.local import Cast, LocalLeague
from simulations.deployment.progress import sentence_of
from simulations.setup.options import Setting

_PARTS: Mapping[str, str] = {
    "flower-superlink": "superlink", "server.superlink.link": "superlink", "server.superlink.worker": "coordinator app",
    "server.superlink.proxy": "guard", "clients.supernode.node": "site node", "clients.supernode.worker": "site worker",
    "flower-supernode": "site node", "flwr-clientapp": "site worker", "flower-superexec": "site launcher",
}  # fmt: skip
_SETTLE_S = 2.0


class Part(NamedTuple):
    """One league, to be run with each kind of site process."""

    sites: int
    protection: str
    rounds: int


QUICK, FULL = (Part(3, "plain", 2),), (Part(3, "he+masked", 3), Part(8, "he+masked", 2))


def run(quick: bool) -> BenchResult:
    """Three and eight sites under `he+masked`; quick takes three sites in clear."""
    return measure(QUICK if quick else FULL)


def measure(parts: Sequence[Part], kinds: Sequence[str] = ("hansa", "stock")) -> BenchResult:
    """Measure some leagues, each with our and with Flower's site processes, or one of both; prints every step.

    Raises
    ------
    RunError : the two kinds released different models.
    """
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for part in parts:
        measured = {kind: _measure(_KINDS[kind], part) for kind in kinds}
        rows += measured.values()
        if len({row["model"] for row in measured.values()}) > 1:
            raise RunError("the two leagues released different models", where=f"{part.sites} sites")
        if len(measured) == 2:
            ratios[f"stock_over_ours_{part.sites}"] = round(
                measured["stock"]["round_s"] / measured["hansa"]["round_s"], 2
            )
    if ratios:
        ratios["stock_over_ours"] = min(ratios.values())
    return {"name": "deployment", "rows": rows, "ratios": ratios}


class StandingLeague(LocalLeague):
    """Hansa's own site processes."""

    kind = "hansa"


class StockLeague(LocalLeague):
    """Flower's own SuperNodes at Flower's own SuperLink: they show no certificate, which ours asks for."""

    kind = "stock SuperNode"
    keeper = "simulations.benchmarks.support.stock_link"

    def start_site(self, site: SiteEntry) -> None:
        """Start `flower-supernode` as Flower documents it, with the same settings as ours."""
        kit = Kit.read(self.kits / "sites" / site.name)
        kit.out.mkdir(parents=True, exist_ok=True, mode=0o700)
        superlink = str(read_json(Post(self.kit).private / ADDRESS)["superlink"])
        arguments = [
            "flower-supernode", "--root-certificates", str(kit.folder / kit_files.AUTHORITY),
            "--superlink", superlink, "--auth-supernode-private-key", str(kit.private / kit_files.NODE_KEY),
            "--port", str(free_port()), "--isolation", "subprocess",
            "--node-config", kit.node_config(Path(site.folder)),
        ]  # fmt: skip
        home = {"FLWR_HOME": str(kit.private / "flower")}
        self.children[site.name] = Child.start(site.name, arguments, kit.logs / "site.log", home)


_KINDS: Mapping[str, type[StandingLeague] | type[StockLeague]] = {
    "hansa": StandingLeague,
    "stock": StockLeague,
}


def _measure(kind: type[StandingLeague] | type[StockLeague], part: Part) -> dict[str, Any]:
    """One league from keys to its model, as a row."""
    sites, protection, rounds = part
    with tempfile.TemporaryDirectory(prefix="hansa-deployment-", ignore_cleanup_errors=True) as folder:
        began = time.monotonic()
        settings: dict[str, Setting] = {"rounds.deadline_s": 1200.0, "rounds.quantise": True}
        league = kind.provision(Path(folder), Cast(sites, rounds, protection, 0, settings))
        memory, narrator = Memory(), Narrator(f"{kind.kind}, {sites} sites, {protection}", began)

        def look() -> None:
            memory.look()
            narrator.look(league)

        try:
            narrator.say("keys and data are made; its processes start")
            league.start()
            order = order_run(league.kit)
            await_model(league.kit, order, look)
        finally:
            stop(list(league.children.values()), polite_s=20.0)
            league.stop()
        lines = read_lines(league.run.rounds_file)
        model = league.run.model.read_bytes()
    later = lines[1:]
    return {
        "league": kind.kind, "sites": sites, "protection": protection, "rounds": len(lines),
        "round_s": round(statistics.median(float(line["seconds"]) for line in later), 3),
        "first_round_s": round(float(lines[0]["seconds"]), 3),
        "up_mb_a_round": round(statistics.mean(line["bytes"]["up"] for line in later) / 1e6, 3),
        "down_mb_a_round": round(statistics.mean(line["bytes"]["down"] for line in later) / 1e6, 3),
        **{f"{process} mb": figure for process, figure in memory.largest_mb().items()},
        "whole_s": round(time.monotonic() - began, 1), "load_average": round(os.getloadavg()[0], 1),
        "model": hashlib.sha256(model).hexdigest()[:16],
    }  # fmt: skip


class Narrator:
    """Prints progress on the standard error: a line for each finished round."""

    def __init__(self, league: str, began: float) -> None:
        self._league, self._began, self._rounds = league, began, 0

    def say(self, what: str) -> None:
        """One line, with the seconds since the league's beginning."""
        sys.stderr.write(f"{self._league}: {what} ({time.monotonic() - self._began:.0f} s)\n")
        sys.stderr.flush()

    def look(self, league: LocalLeague) -> None:
        """Tell of rounds that have ended."""
        lines = read_lines(league.run.rounds_file)
        for line in lines[self._rounds :]:
            self.say(sentence_of(line))
        self._rounds = len(lines)


class Memory:
    """The largest resident memory of any child process of each kind."""

    def __init__(self) -> None:
        self._largest: dict[str, int] = {}
        self._at = 0.0

    def look(self) -> None:
        """Read the memory of all child processes, at most every two seconds."""
        if time.monotonic() - self._at < _SETTLE_S:
            return
        self._at = time.monotonic()
        for process in psutil.Process().children(recursive=True):
            try:
                command, size = " ".join(process.cmdline()), process.memory_info().rss
            except psutil.Error:
                continue
            part = next((part for word, part in _PARTS.items() if word in command), None)
            if part is not None:
                self._largest[part] = max(self._largest.get(part, 0), size)

    def largest_mb(self) -> dict[str, int]:
        """The largest memory of each kind of process, in MB."""
        return {part: round(size / 1e6) for part, size in sorted(self._largest.items())}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a part; exit code as of the error, else 0."""
    parser = argparse.ArgumentParser(prog="deployment", description="Real processes beside Flower's own.")
    parser.add_argument("--sites", type=int, nargs="+", default=[part.sites for part in FULL])
    parser.add_argument("--protection", default="he+masked", choices=("plain", "masked", "he", "he+masked"))
    parser.add_argument("--kinds", nargs="+", default=list(_KINDS), choices=tuple(_KINDS))
    parser.add_argument("--rounds", type=int, default=2, help="two or more; the first doesn't count")
    chosen = parser.parse_args(argv)
    if chosen.rounds < 2:
        parser.error("--rounds takes two or more: the first one opens the sites' data, and doesn't count")
    try:
        result = measure(
            [Part(sites, chosen.protection, chosen.rounds) for sites in chosen.sites], chosen.kinds
        )
    except HansaError as fault:
        sys.stderr.write(f"{fault}\n")
        return fault.exit_code
    sys.stdout.write(json.dumps(result) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
