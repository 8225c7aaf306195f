"""`hansa site …`: what the administrator of a site does, from the request for a kit to leaving the league."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import HansaError, InputError, RunError
from common.runtime import logs
from simulations.output import Format, FormatOption, note, output_of, plain, table

app = typer.Typer(no_args_is_help=True, help="A site of a league across machines.")

KitArgument = Annotated[Path, typer.Argument(help="The site's kit.")]
KitOption = Annotated[Path, typer.Option("--kit", help="Folder of the site's kit.")]
SiteOption = Annotated[
    Path,
    typer.Option("--site", help="Folder with the site's data, or with a site.toml that names its vault."),
]


@app.callback()
def _group() -> None:
    """A site of a league across machines."""


@app.command()
def request(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The site's name in the league.")],
    kit: KitOption = Path("kit"),
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa site request lubeck --kit kit`

    Makes the site's private keys here, where they stay, and a request to send to whoever provisions the league.
    """
    from clients.supernode.membership import make_request

    path = make_request(name, kit)
    output_of(context).result(
        form,
        {"request": path},
        lambda screen: screen.print(f"Send {plain(path)}; it holds no secret.", markup=False),
    )


@app.command()
def join(
    context: typer.Context,
    archive: Annotated[
        Path, typer.Argument(help="The kit as you got it, NAME.kit.tar.gz, with its .sig beside it.")
    ],
    into: Annotated[Path, typer.Option("--into", help="Folder for the kit.")] = Path("kit"),
    authority: Annotated[
        str, typer.Option(help="The authority's fingerprint as you were told it: 16 digits or more.")
    ] = "",
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa site join lubeck.kit.tar.gz --into kit --authority 3f9a…`

    Checks the kit's signature and checksums, and unpacks it. Works for the coordinator's kit too.
    """
    from simulations.deployment.archive import open_kit

    fingerprint = open_kit(archive, into, authority)
    if not authority:
        note(
            "Nobody has vouched for this authority: compare the fingerprint with whoever provisions the league."
        )
    output_of(context).result(
        form, {"kit": into, "authority": fingerprint},
        lambda screen: screen.print(f"Unpacked into {plain(into)}; authority {fingerprint}", markup=False),
    )  # fmt: skip


@app.command()
def accept(
    context: typer.Context, kit: KitArgument,
    contract: Annotated[Path, typer.Argument(help="The new contract.json, with contract.sig beside it.")],
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa site accept kit contract.json`

    Takes a new edition of the contract, signed by the same authority, and says what it changes.
    """
    from clients.supernode.membership import accept_contract

    changes = accept_contract(kit, contract)

    def show(screen: Console) -> None:
        screen.print(f"Edition {changes.edition} in place of {changes.before}.")
        for line in changes.told or ("Nothing that concerns who takes part or how.",):
            screen.print(plain(line), markup=False)

    output_of(context).result(form, changes, show)


@app.command()
def doctor(
    context: typer.Context, kit: KitArgument,
    site: Annotated[Path | None, typer.Option("--site", help="Look at the data too.")] = None,
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa site doctor kit --site shop`

    Looks at contract, code, keys, certificate, clock and the way to the coordinator. Ends with 0 if none is at fault.
    """
    from clients.supernode.checks import look_over
    from clients.supernode.kit import Kit

    results = look_over(Kit.read(kit))
    if site is not None:
        results.append(_data(site))

    def show(screen: Console) -> None:
        screen.print(
            table(
                ("look", "verdict", "found"),
                [(result.name, result.verdict, result.told) for result in results],
            )
        )

    output_of(context).result(form, {"looks": [dataclasses.asdict(result) for result in results]}, show)
    bad = [result for result in results if result.verdict == "fault"]
    if bad:
        raise RunError(
            f"{len(bad)} of {len(results)} looks found a fault",
            where=str(kit),
            why=bad[0].told,
            next_step=bad[0].next_step,
        )


@app.command()
def up(kit: KitArgument, site: SiteOption) -> None:
    """Example: `hansa site up kit --site shop`

    Keeps the site in the league until Ctrl-C or SIGTERM; it does what contract and site.toml allow, and nothing else.
    """
    from clients.supernode.supervisor import run

    logs.configure("site")
    run(kit, site)


@app.command()
def status(context: typer.Context, kit: KitArgument, form: FormatOption = Format.text) -> None:
    """Example: `hansa site status kit`

    Says whether the site is up, what it answered last, and until when its papers are good. Changes nothing.
    """
    from clients.supernode.membership import read_status

    facts = read_status(kit)

    def show(screen: Console) -> None:
        screen.print(
            table(
                (facts.site, ""),
                [(key.replace("_", " "), value) for key, value in dataclasses.asdict(facts).items()],
            )
        )

    output_of(context).result(form, facts, show)


@app.command()
def pause(
    context: typer.Context, kit: KitArgument,
    end: Annotated[bool, typer.Option("--end", help="Take part again.")] = False, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa site pause kit`

    The site stays in the league, but trains in no further round until `--end`; a round under way is finished.
    """
    from clients.supernode.membership import set_pause

    set_pause(kit, not end)
    text = "takes part again" if end else "takes no part in further rounds"
    output_of(context).result(form, {"paused": not end}, lambda screen: screen.print(f"The site {text}."))


@app.command()
def leave(
    context: typer.Context, kit: KitArgument,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask.")] = False, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa site leave kit`

    Stops the site and destroys its keys, so nobody can speak for it any more. Results, logs and the ledger stay.
    """
    from clients.supernode.membership import leave_league

    if not yes and not typer.confirm("Destroy the site's keys? It can come back only with a new kit."):
        raise InputError("nothing was done", where="--yes")
    destroyed = leave_league(kit)
    note("Tell whoever provisions the league, so that they revoke the site's certificate.")
    output_of(context).result(
        form, {"destroyed": destroyed}, lambda screen: screen.print(f"{len(destroyed)} keys are destroyed.")
    )


def _data(site: Path):  # type: ignore[no-untyped-def]
    from clients.data.source import open_house
    from clients.supernode.checks import CheckResult

    try:
        with open_house(site) as house:
            return CheckResult(
                "data", "ok", f"{house.data.products.height} products, {house.data.events.height} events"
            )
    except HansaError as fault:
        return CheckResult("data", "fault", fault.sentence(), fault.next_step)
