"""A whole simulated run: derive sites, train the league, compare, and write results for people.

Invariant: each stage writes its results to the run folder as soon as they exist, so a run that was killed goes on where
it stopped and ends with the same bytes.
"""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from flwr.app import UserConfig

from clients.trainer import open_site
from common.errors import RunError
from common.files import read_json, read_lines, write_json, write_whole
from common.reports import model_card, write_report
from common.runtime.progress import RoundProgress, Style
from common.settings.config import LeagueConfig
from common.storage.run_folder import RunFolder
from simulations.engines.engine import Engine, run_league
from simulations.runs.dry_run import plan_of
from simulations.runs.pictures import SitePictures
from simulations.runs.results import RunSummary
from simulations.runs.summary import summarise
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import SimulateOptions
from simulations.yardsticks.alongside import await_yardsticks, yardsticks_alongside
from simulations.yardsticks.centralised import centralised
from simulations.yardsticks.non_private import non_private, wanted

OPTIONS = "options.json"


def simulate(options: SimulateOptions) -> RunSummary:
    """Run a whole league as asked for.

    Raises
    ------
    HansaError : what, where, why and the next step; the run folder keeps what was done.
    """
    config = plan_config(options)
    if options.dry_run:
        return plan_of(options, config)
    started = time.monotonic()
    folder, config = create_run(options, config)
    choices = {
        "engine": options.engine, "workers": options.workers, "address": options.address, "compare": options.compare,
        "report": options.report, "quiet": options.quiet, "ablation": options.ablation,
    }  # fmt: skip
    write_json(folder.root / OPTIONS, choices)
    return _carry_out(folder, config, started)


def resume(run_dir: Path) -> RunSummary:
    """Go on with a run that was stopped; the result equals the uninterrupted one.

    Raises
    ------
    RunError : there is no run in the folder.
    """
    folder = RunFolder(run_dir.resolve())
    return _carry_out(folder, folder.config(), time.monotonic())


def _carry_out(folder: RunFolder, config: LeagueConfig, started: float) -> RunSummary:
    chosen = read_json(folder.root / OPTIONS)
    if not isinstance(chosen, dict):
        raise RunError("the run's options are damaged", where=OPTIONS, next_step="start the run anew")
    timing: dict[str, float] = {"prepare_s": time.monotonic() - started}
    engine: Engine = chosen["engine"]
    at = time.monotonic()
    style: Style = "silent" if chosen["quiet"] else "auto"
    settings: UserConfig = {"compare": bool(chosen["compare"]), "progress": style}
    # The in-process engine keeps to one core; on the pool the yardstick fills the cores that a phase's end leaves free.
    compares = chosen["compare"] and engine == "pool" and not _is_compared(folder, config)
    beside = yardsticks_alongside(folder, int(chosen["workers"])) if compares else nullcontext()
    with beside as pipe:
        run_league(folder.root, engine, int(chosen["workers"]), settings, str(chosen.get("address", "")))
        timing["league_s"] = time.monotonic() - at
        at = time.monotonic()
        if pipe is not None:
            await_yardsticks(pipe, folder, style)
    if chosen["compare"]:
        _compare(folder, config, engine, int(chosen["workers"]), style)
        timing["centralised_s"] = time.monotonic() - at
    recorded = _recorded(folder)
    ablation = recorded.get("ablation")
    if chosen["ablation"] and ablation is None:
        from simulations.yardsticks.ablation import ablate

        ablation = ablate(folder, config)
    metrics = summarise(folder, recorded.get("timing") or timing, ablation)
    write_whole(folder.card, model_card(folder.root).encode("utf-8"))
    report = write_report(folder.root, SitePictures(folder)) if chosen["report"] else None
    sites = folder.sites()
    details = read_json(folder.root / "details.json")
    return RunSummary(
        run=folder.root,
        sites=tuple(s.name for s in sites if not s.held_out),
        held_out=tuple(s.name for s in sites if s.held_out),
        rounds=len(read_lines(folder.rounds_file)),
        seconds=time.monotonic() - started,
        config_digest=config.digest(),
        metrics=metrics,
        headline=details["headline"],
        verdicts=tuple(details["verdicts"]),
        report=report,
    )


def _recorded(folder: RunFolder) -> dict[str, Any]:
    """The recorded results of a finished run: resuming it measures and trains nothing new."""
    path = folder.root / "details.json"
    return read_json(path) if path.exists() else {}


def _compare(folder: RunFolder, config: LeagueConfig, engine: Engine, workers: int, style: Style) -> None:
    if _is_compared(folder, config):
        return
    if config.model.tower:
        _centralised(folder, config, style)
    non_private(folder, config, engine, workers, style)


def _centralised(folder: RunFolder, config: LeagueConfig, style: Style) -> None:
    sites = [open_site(Path(site.folder), config) for site in folder.sites() if not site.held_out]
    with RoundProgress(style) as progress:
        progress.start("centralised", total=config.rounds.count)
        centralised(sites, config, folder.site_out, lambda epoch, loss: progress.step(epoch, loss=loss))


def _is_compared(folder: RunFolder, config: LeagueConfig) -> bool:
    members = [site.name for site in folder.sites() if not site.held_out]
    return not wanted(folder, config) and (
        not config.model.tower
        or all((folder.site_out(name) / "centralised.json").exists() for name in members)
    )
