"""`hansa status`, `hansa evaluate`, `hansa report`: look at a run folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.errors import RunError
from common.files import read_json, read_lines
from common.privacy.stopped import stopped_sites
from common.storage.run_folder import RunFolder
from simulations.arguments import RunArgument
from simulations.commands.simulate import show_comparison, show_verdicts
from simulations.output import Format, FormatOption, output_of, plain, table


def status(
    context: typer.Context,
    run: RunArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Go on showing it until the run ends.")] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa status runs/demo --watch`

    Says how far a run has come, what its last round gave, whether joining paid, and what to do next. Changes nothing.
    """
    if watch:
        from simulations.commands.watch import watch as watch_run

        watch_run(run)
    facts = read_status(run)
    output_of(context).result(form, facts, lambda screen: _show_status(screen, facts))


def evaluate(context: typer.Context, run: RunArgument, form: FormatOption = Format.text) -> None:
    """Example: `hansa evaluate runs/demo`

    Measures the released model again on the sites' own data, by full ranking.
    """
    from simulations.runs.serve import evaluate as measure

    metrics = measure(run)
    output_of(context).result(form, metrics, lambda screen: show_comparison(screen, metrics))


def report(context: typer.Context, run: RunArgument, form: FormatOption = Format.text) -> None:
    """Example: `hansa report runs/demo`

    Writes report.html anew from what lies in the run folder: one file that opens offline.
    """
    from common.reports import write_report
    from simulations.runs.pictures import SitePictures

    path = write_report(run, SitePictures(RunFolder(run)))
    output_of(context).result(
        form, {"report": path}, lambda screen: screen.print(f"Report: {plain(path)}", markup=False)
    )


def read_status(run: Path) -> dict[str, Any]:
    """How far a run has come, from its files alone.

    Raises
    ------
    RunError : there is no run in the folder, or its first files are damaged.
    """
    folder = RunFolder(run)
    if not folder.config_file.exists():
        raise RunError(
            "there is no run here", where=str(run), why="config.json is missing",
            next_step="start one with hansa simulate --run FOLDER",
        )  # fmt: skip
    config, sites, rounds = folder.config(), folder.sites(), read_lines(folder.rounds_file)
    last = rounds[-1] if rounds else {}
    trained = {row.get("round") for row in rounds}
    finished = RunFolder(run).card.exists()
    return {
        "run": str(run),
        "phase": "finished"
        if finished
        else "evaluating"
        if len(trained) >= config.rounds.count
        else "training",
        "rounds_done": len(trained),
        "rounds": config.rounds.count,
        "sites": [site.name for site in sites if not site.held_out],
        "held_out": [site.name for site in sites if site.held_out],
        "last_loss": last.get("loss"),
        "last_cohort": last.get("cohort"),
        "quarantined": sorted({entry["site"] for row in rounds for entry in row.get("quarantined") or ()}),
        "budget_spent": stopped_sites(rounds),
        "seconds": sum(float(row.get("seconds") or 0) for row in rounds),
        "checkpoints": sorted(file.name for file in folder.state.glob("round-*.safetensors")),
        **_worth(run),
        "report": str(run / "report.html") if (run / "report.html").exists() else None,
        "config_digest": config.digest(),
        "next_step": f"hansa recommend {run} --help" if finished else f"hansa resume {run}",
    }


def _worth(run: Path) -> dict[str, Any]:
    """Whether joining paid, where a run has come so far."""
    path = run / "details.json"
    details = read_json(path) if path.exists() else {}
    return {"headline": details.get("headline"), "verdicts": details.get("verdicts") or []}


def _show_status(screen: Console, facts: dict[str, Any]) -> None:
    rows = [
        ("phase", facts["phase"]),
        ("rounds", f"{facts['rounds_done']} of {facts['rounds']}"),
        ("sites", ", ".join(facts["sites"])),
        ("left out of training", ", ".join(facts["held_out"]) or "none"),
        ("last loss", facts["last_loss"]),
        ("quarantined", ", ".join(facts["quarantined"]) or "none"),
        (
            "budget spent",
            ", ".join(f"{name} from round {n}" for name, n in facts["budget_spent"].items()) or "none",
        ),
        ("time in rounds", f"{facts['seconds']:.1f} s"),
        ("report", facts["report"]),
        ("next", facts["next_step"]),
    ]
    screen.print(table((facts["run"], ""), rows))
    show_verdicts(screen, facts["headline"], facts["verdicts"])
