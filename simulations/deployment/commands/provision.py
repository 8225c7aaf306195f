"""`hansa provision league.toml`: make the kits of a league, or bring them up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import ConfigError
from simulations.output import Format, FormatOption, note, output_of, plain, table

EXAMPLE = """# hansa provision league.toml --out kits
name = "north-sea"

[coordinator]
addresses = ["league.example.org"]   # under which sites reach it; the first goes into their kits
port = 9443
listen = "0.0.0.0"                   # address of the coordinator's machine that the guard listens on

[contract]
until = "2027-12-31"
least_protection = "he+masked"       # no edition may fall short of these
most_epsilon = 8.0
most_rounds = 50

[[site]]
name = "lubeck"
title = "Lübeck"
request = "lubeck.request.json"      # made there by: hansa site request lubeck --kit kit

[[site]]
name = "hangzhou"
title = "杭州"
language = "zh"                      # no request: its keys are made here, and travel in its kit

# From here on: the settings that `hansa init` lists. Categories are catalogue words that several sites use.
[model]
categories = ["coats", "shoes"]
adapter = "linear"                   # few numbers: noise grows with them (hansa init --private)
item_dim = 16
dropout = 0.0

[training]
behaviour_weight = 0.1

[privacy]
mode = "user"                        # three sites or more share less noise: distributed, with honest_sites
epsilon = 8.0
clip = 0.3
expected_users = 200                 # about as many as a site has; hansa budget plan tells what that gives
learning_rate = 4.0

[rounds]
protection = "he+masked"
count = 10
"""


def provision(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="Who takes part, under which settings.")] = Path("league.toml"),
    out: Annotated[Path, typer.Option(help="Folder of authority and kits; keep it to yourself.")] = Path("kits"),
    renew: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Issue a site's certificate (or 'coordinator') anew.")
    ] = None,
    revoke: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Put a site out for good; repeatable.")
    ] = None,
    example: Annotated[bool, typer.Option("--example", help="Write an example to the file, and nothing else.")] = False,
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa provision league.toml --out kits`

    Makes a certificate authority, the coordinator's kit and one for each site. Run it again after a change of the file:
    it makes what is new and leaves all other keys as they are.
    """
    if example:
        _write_example(context, file, form)
        return
    # Imported here: `--help` doesn't wait for them.
    from simulations.deployment.kits import Provisioned
    from simulations.deployment.kits import provision as bring_up_to_date
    from simulations.deployment.plan import read_plan

    provisioned = bring_up_to_date(read_plan(file), out.resolve(), renew=renew or (), revoke=revoke or ())

    def show(screen: Console, provisioned: Provisioned = provisioned) -> None:
        rows = [(path.name.removesuffix(".kit.tar.gz"), str(path)) for path in provisioned.archives]
        if rows:
            screen.print(table(("for", "kit, to be handed over with its .sha256 and .sig"), rows))
        screen.print(f"Contract: edition {provisioned.edition}, {len(provisioned.sites)} sites.")
        screen.print(f"Authority: {provisioned.authority}", markup=False)

    output_of(context).result(form, provisioned, show)
    note("Tell each site the authority's fingerprint (its first 16 digits do) by telephone or in person.")
    if provisioned.edition > 1:
        note(
            f"Copy contract.json, contract.sig and coordinator/revoked.crl from {plain(out)} into the coordinator's "
            "kit; give the first two to the sites, for 'hansa site accept'."
        )


def _write_example(context: typer.Context, file: Path, form: Format) -> None:
    if file.exists():
        raise ConfigError("the file exists", where=str(file), next_step="choose another name")
    file.write_text(EXAMPLE, encoding="utf-8")
    output_of(context).result(
        form, {"file": file}, lambda screen: screen.print(f"Wrote {plain(file)}", markup=False)
    )
