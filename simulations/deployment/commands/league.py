"""`hansa league local`: try a whole league as separate processes of this machine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import RunError
from simulations.arguments import SetOption
from simulations.output import Format, FormatOption, note, output_of, plain
from simulations.setup.options import parse_set

app = typer.Typer(no_args_is_help=True, help="A league across machines, or its rehearsal on this one.")


@app.callback()
def _group() -> None:
    """A league across machines, or its rehearsal on this one."""


@app.command()
def local(
    context: typer.Context,
    sites: Annotated[int, typer.Option(min=1, max=64, help="How many sites.")] = 3,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training.")] = 3,
    protection: Annotated[str, typer.Option(help="plain, masked, he or he+masked.")] = "he+masked",
    seed: Annotated[int, typer.Option(min=0, help="Same seed, same model.")] = 0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Where to keep kits, logs and model; a fresh private folder if left out."),
    ] = None,
    set_: SetOption = None,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa league local --sites 3 --rounds 3`

    Makes keys and kits, starts a coordinator and its sites as separate processes that talk over TLS, trains on made-up
    merchants, and stops them. Ends with 0 only if a model was released.
    """
    settings, knobs = parse_set(set_ or [])
    if knobs:
        raise RunError("the rehearsal's merchants can't be changed", where="--set data.*")
    target = folder or Path(tempfile.mkdtemp(prefix="hansa-league-"))
    # Imported here: torch and Flower take seconds, and `--help` doesn't wait for them.
    from simulations.deployment.local import Cast, Rehearsal, rehearse

    rehearsal = rehearse(target.resolve(), Cast(sites, rounds, protection, seed, settings), note)

    def show(screen: Console, summary: Rehearsal = rehearsal) -> None:
        screen.print(f"{summary.rounds} rounds, {len(summary.sites)} sites, {summary.seconds:.1f} s.")
        screen.print(f"Model: {plain(summary.release)}", markup=False)

    output_of(context).result(form, rehearsal, show)
