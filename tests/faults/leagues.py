"""Leagues without data for tests of the protections: keys made once, sites that can be broken at will."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict, UserConfig
from safetensors.numpy import load_file

from clients.app import app as honest
from clients.secagg.site import SecaggSite
from clients.training.noop import NoopSite
from common.crypto.fields import MODULUS
from common.flower.simulation import COORDINATOR, RUN_ID
from common.protocol import wire
from common.secagg.protocol import Attempt
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.app import app as coordinator
from simulations.engines.local import LocalGrid

SITES = [f"s{place}" for place in range(10)]
SIZE = 3000
Break = Callable[[str, Message, Context], Message | None]


def make_keys(folder: Path, names: list[str] = SITES) -> Path:
    """A folder of each site's keys: RSA keys take most of a test's time."""
    for name in names:
        SecaggSite(folder / name, name, load_config({}), NoopSite(name, 0, 1))
    return folder


def make_league(folder: Path, keys: Path, sites: int, **rounds: Any) -> RunFolder:
    """A run folder whose sites have their keys."""
    run = RunFolder(folder)
    settings = {"clip_range": 2.0, **rounds}
    if settings.get("protection") == "plain":
        settings.setdefault("quantise", True)
    run.create(load_config({"rounds": settings}), [SiteEntry(n, n, "nowhere") for n in SITES[:sites]])
    for name in SITES[:sites]:
        private = folder / "sites" / name / "private"
        private.mkdir(parents=True, mode=0o700)
        shutil.copy(keys / name / "keys.json", private)
    return run


def run_league(run: RunFolder, fault: Break | None = None, grid: type[LocalGrid] = LocalGrid) -> LocalGrid:
    """Run it; `fault` may answer in a site's place."""
    names = [site.name for site in run.sites()]

    def app(message: Message, context: Context) -> Message:
        broken = fault(names[int(context.node_config["partition-id"])], message, context) if fault else None
        return honest(message, context) if broken is None else broken

    settings: UserConfig = {
        "run-dir": str(run.root), "job": "noop", "noop-size": SIZE, "progress": "silent",
    }  # fmt: skip
    made = grid(app, len(names), settings)
    coordinator(made, Context(RUN_ID, COORDINATOR, {}, RecordDict(), settings))
    return made


def noise_from(liar: str, run: RunFolder) -> Break:
    """One site that sends noise of full range in place of an update, sealed as the contract asks."""

    def fault(site: str, message: Message, context: Context) -> Message | None:
        if site != liar or message.metadata.message_type != wire.TRAIN:
            return None
        header, config = wire.read_header(message.content, where="test"), run.config()
        trainer = NoopSite(site, config.seed, SIZE)
        attempt = Attempt.of(str(header.plan["attempt"]))
        words = np.random.default_rng(header.round).integers(0, MODULUS, SIZE // 2, dtype=np.uint64)
        sealed = SecaggSite(run.site_out(site) / "private", site, config, trainer)
        blob = np.frombuffer(sealed.protect_packed(words, attempt), np.uint8)
        layout = trainer.layout().digest
        answer = wire.Header(header.run, header.round, site, layout, header.protection, {"weight": 1.0})
        return Message(wire.pack(answer, vector=blob, metrics={}), reply_to=message)

    return fault


def model_of(folder: Path) -> dict[str, bytes]:
    """A released model's tensors."""
    return {name: tensor.tobytes() for name, tensor in load_file(folder / "model.safetensors").items()}


def secagg_sites(folder: Path, keys: Path, count: int, size: int = SIZE, **rounds: Any) -> list[SecaggSite]:
    """Sites that have exchanged their keys, without a coordinator."""
    config, sites = load_config({"rounds": rounds}), []
    for name in SITES[:count]:
        (folder / name).mkdir(mode=0o700)
        shutil.copy(keys / name / "keys.json", folder / name)
        sites.append(SecaggSite(folder / name, name, config, NoopSite(name, 0, size)))
    bundles = {site.name: site.offer() for site in sites}
    wrapped = sites[0].answer("wrap", {"bundles": bundles, "epoch": 1}) if config.rounds.encrypted else None
    for site in sites:
        site.answer("install", {"bundles": bundles, "wrapped": wrapped})
    return sites
