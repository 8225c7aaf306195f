"""`hansa dashboard` and `hansa status --watch`: look at a run while it goes."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from simulations.output import console, figure, note, table

_DONE = ("finished", "failed", "stopped", "interrupted")
_POLL_S = 1.0


def dashboard(
    run: Annotated[Path, typer.Argument(help="A run folder, or the kit of a coordinator.")],
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where to listen; 0 finds a free port.")] = 8765,
) -> None:
    """Example: `hansa dashboard runs/demo`

    Shows a run in the browser while it goes, in English and 中文, on this machine alone; its figures for Prometheus are
    at /metrics. Ctrl-C ends it; the run goes on.
    """
    from server.dashboard.overview import run_folder_of
    from server.dashboard.web import Dashboard

    run_folder_of(run)
    with Dashboard(run, port) as page:
        note(f"{page.url} shows the run; {page.url}metrics is for Prometheus. Ctrl-C ends this.")
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            note("The dashboard has ended.")


def watch(run: Path) -> None:
    """Show a run until it ends: a table that changes on a terminal, a line for each change elsewhere."""
    from server.dashboard.overview import overview, run_folder_of

    folder = run_folder_of(run)
    if not sys.stdout.isatty():
        last_line = ""
        while True:
            facts = overview(folder)
            if (line := _line(facts)) != last_line:
                print(line, flush=True)
                last_line = line
            if facts["phase"] in _DONE:
                return
            time.sleep(_POLL_S)
    with Live(console=console(True), auto_refresh=False) as live:
        while True:
            facts = overview(folder)
            live.update(_screen(facts), refresh=True)
            if facts["phase"] in _DONE:
                return
            time.sleep(_POLL_S)


def _line(facts: dict[str, Any]) -> str:
    parts = [f"{facts['phase']}: round {facts['round']} of {facts['rounds']}"]
    if facts["loss"] is not None:
        parts.append(f"loss {facts['loss']:.4f}")
    if facts["metric"] is not None:
        parts.append(f"ndcg@20 {facts['metric']:.4f}")
    absent = [site["name"] for site in facts["sites"] if site["state"] in ("quarantined", "away")]
    if absent:
        parts.append(f"without {', '.join(absent)}")
    if facts["fault"]:
        parts.append(facts["fault"]["what"])
    return "  ".join(parts)


def _screen(facts: dict[str, Any]) -> Group:
    step = facts["step"]
    doing = f"  {step['type']} for {facts['at'] - step['began']:.0f} s" if step else ""
    share = facts["round"] / facts["rounds"]
    bar = "█" * round(30 * share) + "░" * (30 - round(30 * share))
    remaining = f"  about {facts['left_s']:.0f} s left" if facts["left_s"] else ""
    head = (
        f"{facts['league']}  {facts['phase']}  {bar}  {facts['round']} of {facts['rounds']}{remaining}{doing}"
    )
    spent = facts["privacy"]
    figures = (
        f"loss {figure(facts['loss'], 4)}  ndcg@20 {figure(facts['metric'], 4)}  "
        f"received {facts['bytes']['up'] / 1e6:.1f} MB  sent {facts['bytes']['down'] / 1e6:.1f} MB"
        + (f"  epsilon {spent['spent']:.2f} of {spent['epsilon']}" if spent else "")
    )
    rows = [
        (
            site["name"], site["state"].replace("_", " "), _clock(site["seen"]), site["seconds"], site["metric"],
            site["rounds"], site["reason"],
        )
        for site in facts["sites"]
    ]  # fmt: skip
    titles = ("site", "state", "last heard", "seconds", "ndcg@20", "rounds", "why it was left out")
    parts: list[Text | Table] = [Text(head, style="bold"), Text(figures), table(titles, rows)]
    if facts["fault"]:
        fault = facts["fault"]
        parts.append(
            Text(f"{fault['what']} ({fault['where']}) {fault['why']} Next: {fault['next_step']}", style="red")
        )
    return Group(*parts)


def _clock(moment: float | None) -> str:
    return "–" if moment is None else datetime.fromtimestamp(moment).strftime("%H:%M:%S")
