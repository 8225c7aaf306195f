"""`hansa bench deployment`: a league of real processes, beside the same league with Flower's own SuperNodes.

Both have the same coordinator's app, data and settings, over TLS on this machine, one after the other in one run. Ours
keeps one process a site that imports once; Flower's SuperNode as it comes starts a fresh one for every message. Rounds
after the first count, since the first one opens each site's data in both. Invariant: both leagues release the same
model, bit for bit, or there is no result.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from common.errors import RunError
from common.processes import Child, free_port, stop
from common.provision.contract import FILE
from common.provision.site_keys import KEYS_FILE
from common.run_folder import SiteEntry, read_json, read_lines
from server.desk import await_model, order_run
from server.orders import ADDRESS, Post
from simulations.deployment.local import LocalLeague
from simulations.options import Setting

_PARTS: Mapping[str, str] = {
    "flower-superlink": "superlink", "server.link": "superlink", "server.worker": "coordinator app",
    "server.proxy": "guard", "clients.node": "site node", "clients.worker": "site worker",
    "flower-supernode": "site node", "flwr-clientapp": "site worker", "flower-superexec": "site launcher",
}  # fmt: skip
_SETTLE_S = 2.0


def run(quick: bool) -> dict[str, Any]:
    """Three and eight sites under `he+masked`; quick takes three sites in clear."""
    settings = [(3, "plain", 2)] if quick else [(3, "he+masked", 3), (8, "he+masked", 2)]
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for sites, protection, rounds in settings:
        ours, models = _measure(StandingLeague, sites, protection, rounds)
        stock, others = _measure(StockLeague, sites, protection, rounds)
        if models != others:
            raise RunError("the two leagues released different models", where=f"{sites} sites")
        rows += [ours, stock]
        ratios[f"stock_over_ours_{sites}"] = round(stock["round_s"] / ours["round_s"], 2)
    ratios["stock_over_ours"] = min(ratios.values())
    return {"name": "deployment", "rows": rows, "ratios": ratios}


class StandingLeague(LocalLeague):
    """Hansa's own site processes."""

    kind = "hansa"


class StockLeague(LocalLeague):
    """Flower's own SuperNodes at Flower's own SuperLink: they show no certificate, which ours asks for."""

    kind = "stock SuperNode"
    keeper = "simulations.benchmarks.stock_link"

    def start_site(self, site: SiteEntry) -> None:
        """Start `flower-supernode` as Flower documents it, with the same settings as ours."""
        kit = self.kits / "sites" / site.name
        out = kit / "private" / "out"
        out.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings = {
            "site-name": site.name, "site-dir": site.folder, "out-dir": str(out), "config-json": str(kit / FILE),
            "keys-file": str(kit / "private" / KEYS_FILE),
        }  # fmt: skip
        told = " ".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
        superlink = str(read_json(Post(self.kit).private / ADDRESS)["superlink"])
        arguments = [
            "flower-supernode", "--root-certificates", str(kit / "ca.crt"), "--superlink", superlink,
            "--auth-supernode-private-key", str(kit / "private" / "node.key"), "--port", str(free_port()),
            "--isolation", "subprocess", "--node-config", told,
        ]  # fmt: skip
        home = {"FLWR_HOME": str(kit / "private" / "flower")}
        self.children[site.name] = Child.start(site.name, arguments, kit / "logs" / "site.log", home)


def _measure(
    kind: type[StandingLeague] | type[StockLeague], sites: int, protection: str, rounds: int
) -> tuple[dict[str, Any], bytes]:
    """One league from keys to its model: its row, and the model."""
    with tempfile.TemporaryDirectory(prefix="hansa-deployment-", ignore_cleanup_errors=True) as folder:
        began = time.monotonic()
        settings: dict[str, Setting] = {"rounds.deadline_s": 1200.0, "rounds.quantise": True}
        league = kind.provision(
            Path(folder), sites=sites, rounds=rounds, protection=protection, seed=0, settings=settings
        )
        memory = Memory()
        try:
            league.start()
            await_model(league.kit, order_run(league.kit), memory.look)
        finally:
            stop(list(league.children.values()), polite_s=20.0)
            league.stop()
        lines = read_lines(league.run.rounds_file)
        model = (league.run.release / "model.safetensors").read_bytes()
    later = lines[1:]
    row = {
        "league": kind.kind, "sites": sites, "protection": protection, "rounds": len(lines),
        "round_s": round(statistics.median(float(line["seconds"]) for line in later), 3),
        "first_round_s": round(float(lines[0]["seconds"]), 3),
        "up_mb_a_round": round(statistics.mean(line["bytes"]["up"] for line in later) / 1e6, 3),
        "down_mb_a_round": round(statistics.mean(line["bytes"]["down"] for line in later) / 1e6, 3),
        **{f"{part} mb": figure for part, figure in memory.largest_mb().items()},
        "whole_s": round(time.monotonic() - began, 1), "load_average": round(os.getloadavg()[0], 1),
    }  # fmt: skip
    return row, model


class Memory:
    """The largest resident memory seen of one process of each kind that this one has below it."""

    def __init__(self) -> None:
        self._largest: dict[str, int] = {}
        self._at = 0.0

    def look(self) -> None:
        """Look, at most every two seconds."""
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
        """In megabytes, by kind."""
        return {part: round(size / 1e6) for part, size in sorted(self._largest.items())}
