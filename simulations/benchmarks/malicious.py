"""One malicious site of eight: what it does to the others' model, by protection, and what the league does about it.

The site trains as the others do, then sends its update scaled, turned round, or as noise of full range (NaN where
updates are floats), or trains on a log in which everybody buys one item, scaled. The figure is the honest sites'
mean validation NDCG@20 of the released model, lost against the same league without malice. Run it by
`hansa bench malicious`; in full it takes six minutes of one core.
"""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from flwr.app import Context, Message, RecordDict, UserConfig

from clients.app import app as honest_app
from clients.sealed.site import SealedSite
from clients.site import Site, open_site
from common import checkpoint, wire
from common.config import LeagueConfig, with_overrides
from common.crypto.fields import MODULUS
from common.crypto.protocol import Attempt
from common.progress import RoundProgress
from common.run_folder import RunFolder, read_lines
from server.league import League, roll_call
from server.phases import measure_last
from server.prepare import prepare
from server.rounds import run_rounds
from server.state import RunState
from simulations.grid.flower import COORDINATOR, RUN_ID, become
from simulations.grid.local import LocalGrid
from simulations.league import create_run, plan_config
from simulations.options import SimulateOptions

Attack = Literal["none", "scaled", "flipped", "nan", "promotion", "gentle"]
_ATTACKS: tuple[Attack, ...] = ("scaled", "flipped", "nan", "promotion", "gentle")
_FACTOR = {"none": 1.0, "scaled": 30.0, "flipped": -5.0, "nan": np.nan, "promotion": 5.0, "gentle": 2.0}
_PLAIN = {"rounds.protection": "plain"}
_GUARD = {"rounds.worst_fall": 0.05}
_BOUND = 8.0  # honest updates of this league have a norm of 7.4
_LEAGUES: dict[str, dict[str, Any]] = {
    "plain, mean, no check": _PLAIN,
    "plain, trimmed mean": {**_PLAIN, "rounds.aggregator": "trimmed_mean", **_GUARD},
    "plain, median": {**_PLAIN, "rounds.aggregator": "median", **_GUARD},
    "plain, Krum": {**_PLAIN, "rounds.aggregator": "krum", **_GUARD},
    "he+masked, groups and checks": {
        "rounds.protection": "he+masked",
        "rounds.groups": 2,
        "rounds.max_update_norm": _BOUND,
        **_GUARD,
    },
}


def run(quick: bool) -> dict[str, Any]:
    """Every attack under every league; in the short form two aggregators, two attacks and fewer rounds."""
    torch.set_num_threads(1)
    leagues = [name for name in _LEAGUES if not quick or name not in ("plain, median", "plain, Krum")]
    attacks = ("none", *_ATTACKS) if not quick else ("scaled", "promotion")
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="hansa-malicious-") as root:
        options = SimulateOptions(
            run=Path(root) / "league", rounds=3 if quick else 8,
            data_overrides={"users_per_site": 80, "items_per_site": 160, "held_out": 0},
        )  # fmt: skip
        league, config = create_run(options, plan_config(options))
        clean, _ = _figure(league, with_overrides(config, _PLAIN), "none")
        rows.append({"league": "plain, mean", "attack": "none", "ndcg": round(clean, 4)})
        for name in leagues:
            changed = with_overrides(config, _LEAGUES[name])
            for attack in attacks:
                figure, lines = _figure(league, changed, attack)
                rows.append({
                    "league": name, "attack": attack, "ndcg": round(figure, 4),
                    "loss": round(1 - figure / clean, 4),
                    "undone": sum(bool(line["undone"]) for line in lines),
                    "groups_refused": sum(line["groups_refused"] for line in lines),
                    "quarantined": sum(len(line["quarantined"]) for line in lines),
                })  # fmt: skip
    ratios = {
        f"worst_loss[{name}]": max(row["loss"] for row in rows if row["league"] == name) for name in leagues
    }
    return {"name": "malicious", "rows": rows, "ratios": ratios}


def _figure(league: RunFolder, config: LeagueConfig, attack: Attack) -> tuple[float, list[dict[str, Any]]]:
    """The honest sites' figure of the last model of the league's rounds, and the log of rounds."""
    with tempfile.TemporaryDirectory(prefix="hansa-malicious-") as root:
        folder, sites = RunFolder(Path(root)), league.sites()
        folder.create(config, sites)
        told: UserConfig = {"run-dir": root, "progress": "silent"}
        app = _Malicious(folder, config, len(sites) - 1, attack)
        grid = LocalGrid(app.answer, len(sites), told)
        become(COORDINATOR)
        state = _rounds_only(grid, League.from_context(Context(RUN_ID, COORDINATOR, {}, RecordDict(), told)))
        place = folder.state
        if config.rounds.encrypted:
            place = folder.site_out(sites[0].name) / "private" / "model"
        # The released model is the best one that the league measured.
        chosen = config.rounds.count if state.best_round is None else state.best_round
        if chosen:
            vector = checkpoint.load(place, chosen, config=config.digest()).tensors["vector"]
        else:
            vector = open_site(Path(sites[0].folder), config).initial()
        honest = [open_site(Path(site.folder), config) for site in sites[:-1]]
        figures = [site.measure(vector)["valid/ndcg@20"] for site in honest]
        return float(np.mean(figures)), read_lines(folder.rounds_file)


def _rounds_only(grid: LocalGrid, league: League) -> RunState:
    with RoundProgress("silent") as progress:
        roster = roll_call(grid, league, progress)
        state = prepare(grid, league, roster, progress)
        run_rounds(grid, league, roster, state, progress)
        measure_last(grid, league, roster, state, progress)
        return state


class _Malicious:
    """The sites' app, in which one place lies in its training replies."""

    def __init__(self, folder: RunFolder, config: LeagueConfig, place: int, attack: Attack) -> None:
        self._folder, self._config, self._place, self._attack = folder, config, place, attack
        entry = folder.sites()[place]
        self._site = open_site(Path(entry.folder), config)
        if attack in ("promotion", "gentle"):
            _promote(self._site)

    def answer(self, message: Message, context: Context) -> Message:
        lies = self._attack != "none" and context.node_config["partition-id"] == self._place
        if not lies or message.metadata.message_type != wire.TRAIN:
            return honest_app(message, context)
        header, site = wire.read_header(message.content, where="attack"), self._site
        layout, hidden = site.layout(), self._config.rounds.encrypted
        sealed = SealedSite(self._folder.site_out(site.name) / "private", site.name, self._config, site)
        if hidden:
            vector = sealed.vector(header.round - 1)
        else:
            vector = wire.decode_floats(message.content, layout.size, where="attack")
        result = site.train(vector, header.round)
        update = (result.update * _FACTOR[self._attack]).astype(np.float32)
        payload: wire.Payload = update
        if hidden:
            payload = np.frombuffer(self._sealed(sealed, update, header), np.uint8)
        told = wire.Header(
            header.run, header.round, site.name, layout.digest, header.protection, {"weight": 1.0}
        )
        return Message(wire.pack(told, vector=payload, metrics=result.metrics), reply_to=message)

    def _sealed(self, sealed: SealedSite, update: wire.FloatVector, header: wire.Header) -> bytes:
        """As much of the lie as fits fields: past the site's own clipping, never past ± the range."""
        attempt, rounds = Attempt.of(str(header.plan["attempt"])), self._config.rounds
        packing = attempt.packing(rounds)
        if self._attack == "nan":
            count = packing.words(update.size)
            return sealed.seal(np.random.default_rng(0).integers(0, MODULUS, count, dtype=np.uint64), attempt)
        unit = attempt.share([sealed.name]) * attempt.scale(rounds)
        whole = np.rint(np.clip(update.astype(np.float64), -rounds.clip_range, rounds.clip_range) * unit)
        return sealed.seal(packing.pack(whole.astype(np.int64)), attempt)


def _promote(site: Site) -> None:
    """Let nearly everybody at the site have bought one item."""
    data = site.before_validation
    items = data.log.item.copy()
    items[data.target_rows[np.arange(len(data.target_rows)) % 5 > 0]] = items[data.target_rows[0]]
    log = dataclasses.replace(data.log, item=items)
    site.__dict__["before_validation"] = dataclasses.replace(data, log=log)
