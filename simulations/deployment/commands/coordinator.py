"""`hansa coordinator run|status|stop|resume`: what the operator of a league's coordinator does day by day."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from common.errors import ConfigError, RunError
from common.files import read_lines
from common.runtime import logs
from simulations.deployment.progress import sentence_of
from simulations.output import Format, FormatOption, note, output_of, plain, table

app = typer.Typer(no_args_is_help=True, help="The coordinator of a league across machines.")

KitArgument = Annotated[Path, typer.Argument(help="The coordinator's kit.")]
DetachOption = Annotated[bool, typer.Option("--detach", help="Don't wait for the model.")]


@app.callback()
def _group() -> None:
    """The coordinator of a league across machines."""


@app.command()
def up(
    kit: KitArgument,
    front: Annotated[
        str, typer.Option(help="What sites reach: guard, nginx, or none if it runs as a service.")
    ] = "guard",
    port: Annotated[
        int, typer.Option(min=0, help="Where the SuperLink listens on this machine; 0: a free one.")
    ] = 0,
    dashboard: Annotated[
        int,
        typer.Option(min=0, max=65535, help="Port of the page and of /metrics, for this machine; 0: none."),
    ] = 0,
) -> None:
    """Example: `hansa coordinator up kit`

    Keeps the coordinator up until Ctrl-C or SIGTERM: the SuperLink for this machine alone, a guard for sites, the app.
    """
    from server.dashboard.web import Dashboard
    from server.superlink.front import FRONTS
    from server.superlink.supervisor import keep_up

    if front not in FRONTS:
        raise ConfigError(
            f"there is no front '{front}'", where="--front", next_step=f"one of {', '.join(FRONTS)}"
        )
    logs.configure("coordinator")
    with Dashboard(kit, dashboard) if dashboard else nullcontext():
        keep_up(kit, port, FRONTS[front])


@app.command()
def nginx(
    context: typer.Context,
    kit: KitArgument,
    port: Annotated[
        int, typer.Option(min=1, help="Where the SuperLink listens on this machine: --port of 'up'.")
    ],
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa coordinator nginx kit --port 9092 > hansa.conf`

    Prints the configuration with which nginx guards a coordinator that is started with `--front none`.
    """
    from server.superlink.front import nginx_config

    text = nginx_config(kit, f"127.0.0.1:{port}")
    output_of(context).result(
        form, {"config": text}, lambda screen: screen.print(text, markup=False, soft_wrap=True)
    )


@app.command()
def run(
    context: typer.Context, kit: KitArgument, detach: DetachOption = False, form: FormatOption = Format.text
) -> None:
    """Example: `hansa coordinator run kits/coordinator`

    Starts the league's run at a coordinator that is up, or goes on with it, and waits. Ends with 0 only if a model was
    released; stopping this command doesn't stop the run.
    """
    _carry_out(context, kit, form, resume=False, detach=detach)


@app.command()
def resume(
    context: typer.Context, kit: KitArgument, detach: DetachOption = False, form: FormatOption = Format.text
) -> None:
    """Example: `hansa coordinator resume kits/coordinator`

    Goes on with a run that was stopped or failed, at its round; the result equals the uninterrupted one.
    """
    _carry_out(context, kit, form, resume=True, detach=detach)


@app.command()
def stop(
    context: typer.Context,
    kit: KitArgument,
    now: Annotated[bool, typer.Option("--now", help="Don't wait for the round to end.")] = False,
    wait_s: Annotated[float, typer.Option(min=0, help="Seconds to wait for the stop.")] = 600.0,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa coordinator stop kits/coordinator`

    Stops the run after its round, with all of its state kept. The coordinator itself stays up.
    """
    from server.superlink.commands import await_stop, order_stop

    order_stop(kit, now=now)
    outcome = await_stop(kit, seconds=wait_s)
    document = {
        "state": outcome.state, "what": str(outcome.fault.get("what", "")),
        "next_step": f"hansa coordinator resume {kit}",
    }  # fmt: skip
    output_of(context).result(form, document, lambda screen: screen.print(f"The run is {outcome.state}."))


@app.command()
def status(context: typer.Context, kit: KitArgument, form: FormatOption = Format.text) -> None:
    """Example: `hansa coordinator status kits/coordinator`

    Says whether the coordinator is up, how its run goes, and what to do next. Changes nothing.
    """
    facts = read_status(kit)

    def show(screen: Console) -> None:
        rows = [(key.replace("_", " "), value) for key, value in facts.items() if not isinstance(value, dict)]
        screen.print(table((str(kit), ""), rows))

    output_of(context).result(form, facts, show)


def read_status(kit: Path) -> dict[str, Any]:
    """How a coordinator and its run stand, from the kit's files.

    Raises
    ------
    RunError : it's no coordinator's kit.
    """
    from common.provision.contract import FILE, Contract
    from server.superlink.commands import is_under_way, run_of
    from server.superlink.orders import Post

    contract, post, folder = Contract.read(kit / FILE), Post(kit.resolve()), run_of(kit)
    up, under_way, outcome = post.is_up(), is_under_way(post), post.outcome()
    state = "running" if under_way else outcome.state if outcome else "not started"
    step = f"hansa coordinator up {kit}" if not up else {
        "running": f"hansa coordinator stop {kit}", "released": f"the model lies in {folder.release}",
        "failed": f"mend it, then hansa coordinator resume {kit}", "stopped": f"hansa coordinator resume {kit}",
    }.get(state, f"hansa coordinator run {kit}")  # fmt: skip
    return {
        "coordinator": "up" if up else "down", "run": state, "folder": str(folder.root),
        "rounds_done": len(read_lines(folder.rounds_file)), "rounds": contract.config.rounds.count,
        "sites": ", ".join(member.name for member in contract.members if not member.held_out),
        "protection": contract.config.rounds.protection, "tries": outcome.tries if outcome else 0,
        "fault": outcome.fault if outcome else {}, "what": str(outcome.fault.get("what", "")) if outcome else "",
        "next_step": step,
    }  # fmt: skip


def _carry_out(context: typer.Context, kit: Path, form: Format, *, resume: bool, detach: bool) -> None:
    from server.superlink.commands import await_model, order_run, run_of

    order = order_run(kit, resume=resume)
    folder = run_of(kit)
    shown = len(read_lines(folder.rounds_file))
    note(f"The run has been ordered; {shown} rounds lie on the disk.")
    if detach:
        output_of(context).result(form, {"state": "running", "run": str(folder.root)}, lambda _: None)
        return

    def look() -> None:
        nonlocal shown
        lines = read_lines(folder.rounds_file)
        for line in lines[shown:]:
            note(sentence_of(line))
        shown = len(lines)

    outcome = await_model(kit, order, look)
    if not folder.model.exists():
        raise RunError("the released model is gone", where=str(folder.release))
    summary = {
        "state": outcome.state, "run": str(folder.root), "release": str(folder.release), "rounds": shown,
        "tries": outcome.tries,
    }  # fmt: skip
    output_of(context).result(
        form, summary, lambda screen: screen.print(f"Model: {plain(folder.release)}", markup=False)
    )
