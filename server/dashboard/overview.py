"""How a run stands, read from its folder alone: a simulation's and a deployment's alike.

Invariant: reading changes nothing and needs no process of the run; what isn't known is None, never a guess.
"""

from __future__ import annotations

import functools
import json
import time
from pathlib import Path
from typing import Any

from common.errors import RunError
from common.files import read_json, read_lines
from common.settings.config import LeagueConfig, PrivacyConfig
from common.storage.run_folder import RunFolder, SiteEntry
from server.messages.watch import FILE

Overview = dict[str, Any]
METRIC = "valid/ndcg@20"
_QUIET_S = 120.0


def run_folder_of(path: Path) -> RunFolder:
    """The run folder that is meant by its own path, or by that of a coordinator's kit.

    Raises
    ------
    RunError : neither holds a run.
    """
    for root in (path, path / "run"):
        if (root / "config.json").exists():
            return RunFolder(root.resolve())
    raise RunError(
        "there is no run here", where=str(path), why="config.json is missing",
        next_step="start one with 'hansa simulate --run FOLDER' or 'hansa coordinator run KIT'",
    )  # fmt: skip


def overview(folder: RunFolder, now: float | None = None) -> Overview:
    """Rounds, figures, sites, bytes, ε and the time that is left.

    Raises
    ------
    RunError : the run's first files are damaged.
    """
    now = time.time() if now is None else now
    config, lines, live = folder.config(), read_lines(folder.rounds_file), _live(folder)
    failure = _failure(folder)
    alive = not live or _is_alive(live, now)
    phase = _phase(folder, config.rounds.count, lines, live, alive)
    if failure is not None:
        phase = "stopped" if (folder.state / "stop").exists() else "failed"
    return {
        "at": now,
        "league": config.name,
        "protection": config.rounds.protection,
        "phase": phase,
        "step": _step(live) if phase in ("starting", "training", "evaluating") else None,
        "round": len(lines),
        "rounds": config.rounds.count,
        "loss": _last(lines, "loss"),
        "metric": (lines[-1].get("metrics") or {}).get(METRIC) if lines else None,
        "history": [_point(line) for line in lines],
        "bytes": {way: sum(int(line["bytes"][way]) for line in lines) for way in ("up", "down")},
        "seconds": round(sum(float(line["seconds"]) for line in lines), 3),
        "left_s": _left_s(config, lines) if phase == "training" else None,
        "privacy": _privacy(config, len(lines)),
        "sites": [_site(entry, lines, live, phase) for entry in folder.sites()],
        "fault": failure,
    }


def _phase(folder: RunFolder, rounds: int, lines: list[Overview], live: Overview, alive: bool) -> str:
    """Where a run that hasn't failed stands; `alive` is whether its process is there."""
    if folder.model.exists() and _evaluated(folder):
        return "finished"
    if not alive:
        return "interrupted"
    if len(lines) >= rounds:
        return "evaluating"
    return "training" if lines or live.get("task", {}).get("type") == "train" else "starting"


def _evaluated(folder: RunFolder) -> bool:
    done = {str(line["site"]) for line in read_lines(folder.state / "evaluate.final.jsonl")}
    return (bool(done) and len(done) >= len(folder.sites())) or folder.card.exists()


def _is_alive(live: Overview, now: float) -> bool:
    """Whether the process that wrote the last sign of life is there, or wrote it a moment ago."""
    if now - float(live.get("at", 0.0)) < _QUIET_S / 10:
        return True
    command = Path(f"/proc/{live.get('pid', 0)}/cmdline")
    try:
        return b"python" in command.read_bytes()
    except OSError:
        return False


def _step(live: Overview) -> Overview | None:
    task = live.get("task") or None
    return (
        None
        if task is None
        else {"type": str(task["type"]), "began": task["began"], "deadline": task["deadline"]}
    )


def _point(line: Overview) -> Overview:
    metrics = line.get("metrics") or {}
    return {
        "round": line["round"], "loss": line.get("loss"), "metric": metrics.get(METRIC), "seconds": line["seconds"],
        "up": line["bytes"]["up"], "down": line["bytes"]["down"], "sites": len(line["sites"]),
        "cohort": len(line["cohort"]), "undone": line.get("undone") or "",
    }  # fmt: skip


def _site(entry: SiteEntry, lines: list[Overview], live: Overview, phase: str) -> Overview:
    beat = (live.get("sites") or {}).get(entry.name, {})
    reasons = [
        (line["round"], left_out["reason"])
        for line in lines
        for left_out in line["quarantined"]
        if left_out["site"] == entry.name
    ]
    took_part = [line for line in lines if entry.name in line["sites"]]
    figures = took_part[-1]["sites"][entry.name] if took_part else {}
    state = "held_out" if entry.held_out else "ready"
    if phase in ("starting", "training", "evaluating"):
        state = "away" if not beat else "working" if beat.get("waiting") else state
    if reasons and lines and reasons[-1][0] == lines[-1]["round"] and state != "working":
        state = "quarantined"
    return {
        "name": entry.name, "title": entry.title, "state": state, "seen": beat.get("seen"),
        "seconds": beat.get("took"), "metric": figures.get(METRIC), "rounds": len(took_part),
        "quarantined": len(reasons), "reason": reasons[-1][1] if reasons else "",
        "reason_round": reasons[-1][0] if reasons else None,
    }  # fmt: skip


def _left_s(config: LeagueConfig, lines: list[Overview]) -> float | None:
    """Rounds to go by the mean of the last few."""
    last = [float(line["seconds"]) for line in lines[-5:]]
    return None if not last else round(sum(last) / len(last) * (config.rounds.count - len(lines)), 1)


def _privacy(config: LeagueConfig, rounds: int) -> Overview | None:
    """What the contract's noise has cost each user of a site so far."""
    if config.privacy.mode == "off":
        return None
    return {
        "unit": config.privacy.mode, "epsilon": config.privacy.epsilon, "delta": config.privacy.delta,
        "spent": round(_spent(config.privacy, config.rounds.count, rounds), 4),
    }  # fmt: skip


@functools.lru_cache(maxsize=64)
def _spent(privacy: PrivacyConfig, count: int, rounds: int) -> float:
    # Late: Opacus takes seconds, and only private leagues wait for it.
    from common.privacy.accounting import Mechanism, epsilon_rdp, sigma_for

    rate, steps = privacy.sample_rate, privacy.steps_per_round
    sigma = sigma_for(privacy.epsilon, privacy.delta, rate, count * steps)
    spent = [Mechanism.gaussian(sigma, sample_rate=rate, steps=rounds * steps)] if rounds else []
    return epsilon_rdp(spent, privacy.delta)


def _live(folder: RunFolder) -> Overview:
    try:
        document = json.loads((folder.state / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}


def _failure(folder: RunFolder) -> Overview | None:
    path = folder.state / "failure.json"
    if not path.exists():
        return None
    fault = read_json(path)
    return {key: str(fault.get(key, "")) for key in ("what", "where", "why", "next_step")}


def _last(lines: list[Overview], key: str) -> Any:
    return lines[-1].get(key) if lines else None
