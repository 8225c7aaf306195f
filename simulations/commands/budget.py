"""`hansa budget`: what a site may spend on its users' privacy, what it has spent, and what a run would cost."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import click
import typer
from rich.console import Console
from typer.core import TyperGroup

from common.errors import ConfigError
from simulations.arguments import PROMPT, PassphraseOption
from simulations.output import Format, FormatOption, figure, output_of, plain, table


class LooksByDefault(TyperGroup):
    """`hansa budget SITE` is short for `hansa budget show SITE`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the command in where only a folder stands."""
        named = [arg for arg in args if not arg.startswith("-")]
        if args and not {"-h", "--help"} & {args[0]} and not (named and named[0] in self.commands):
            args = ["show", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=LooksByDefault, no_args_is_help=True,
    help="Example: `hansa budget runs/demo`\n\nA site's own privacy budget, of a site folder or of the sites of a run.",
)  # fmt: skip

WhereArgument = Annotated[Path, typer.Argument(help="A site folder or a run folder.")]
SiteArgument = Annotated[Path, typer.Argument(help="A site folder.")]
KeyOption = Annotated[Path | None, typer.Option("--key", help="A role's key of the site's vault.")]


@app.command()
def show(
    context: typer.Context, where: WhereArgument, key: KeyOption = None, passphrase: PassphraseOption = PROMPT,
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa budget my-sites/shop`

    Shows what is spent and left, for what, what one more round costs, and when the budget ends. Changes nothing.
    """
    from simulations.budget.look import look

    facts = look(where, key, passphrase)
    output_of(context).result(form, facts, lambda screen: _show(screen, facts))


@app.command()
def plan(
    context: typer.Context,
    epsilon: Annotated[float, typer.Option(min=0.001, help="The whole run's budget for one user.")] = 8.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of training.")] = 12,
    users: Annotated[int, typer.Option(min=1, help="Users of the smallest site.")] = 100,
    records: Annotated[float | None, typer.Option(min=0, help="Events of a typical user there.")] = None,
    delta: Annotated[float, typer.Option(min=1e-12, max=0.001, help="Chance outside the promise.")] = 1e-5,
    steps: Annotated[int, typer.Option(min=1, help="Steps of a round.")] = 1,
    sample_rate: Annotated[
        float | None, typer.Option(min=1e-4, max=1.0, help="A user's chance to be in a step.")
    ] = None,
    adaptive: Annotated[
        bool, typer.Option("--adaptive", help="Also: a clip that follows a quantile.")
    ] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa budget plan --epsilon 3 --rounds 40 --users 2000 --records 12`

    Gives noise, clip, batch and the expected loss of quality, and says where there is too little to learn from.
    """
    from simulations.budget.plan import Wish, plan_budget

    budget_plan = plan_budget(Wish(epsilon, rounds, users, records, delta, steps, sample_rate, adaptive))
    output_of(context).result(
        form, budget_plan, lambda screen: _show_plan(screen, dataclasses.asdict(budget_plan))
    )


@app.command()
def verify(
    context: typer.Context, where: WhereArgument, key: KeyOption = None, passphrase: PassphraseOption = PROMPT,
    form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa budget verify my-sites/shop`

    Reads each ledger from its first entry and computes every epsilon anew, by two libraries. Exit code 10 where one is
    wrong.
    """
    from simulations.budget.look import verify_all

    checks = verify_all(where, key, passphrase)
    output_of(context).result(form, checks, lambda screen: _show_rows(screen, "ledgers", checks["sites"]))


@app.command()
def lost(
    context: typer.Context, site: SiteArgument,
    sure: Annotated[bool, typer.Option("--yes", help="Entries are really lost; write the whole budget off.")] = False,
    key: KeyOption = None, passphrase: PassphraseOption = PROMPT, form: FormatOption = Format.text,
) -> None:  # fmt: skip
    """Example: `hansa budget lost my-sites/shop --yes`

    The owner's way out where a ledger is gone or older than it was: everything counts as spent, and the ledger goes on.
    """
    from simulations.budget.look import ledger_of, look_at_ledger

    if not sure:
        raise ConfigError(
            "this writes the site's whole budget off", where=str(site),
            why="what was spent in the entries that are lost isn't known",
            next_step="look for a newer copy of the ledger first; then say --yes",
        )  # fmt: skip
    with ledger_of(site, key, passphrase) as ledger:
        ledger.write_off()
        facts = look_at_ledger(ledger)
    output_of(context).result(form, facts, lambda screen: _show(screen, facts))


def _show(screen: Console, facts: dict[str, Any]) -> None:
    rows = [
        {
            "site": site["site"], "spent": site["spent"], "left": _or_all(site["left"]),
            "budget": _or_all(site["budget"]), "period": site["period"], "answers": site["answers"],
            "next round": figure((site["next_round"] or {}).get("epsilon")),
            "rounds left": _or_all((site["next_round"] or {}).get("rounds_left")),
        }
        for site in facts.get("sites", [facts])
    ]  # fmt: skip
    _show_rows(screen, f"Epsilon, delta {facts['delta']:g}: {facts['unit']}", rows)
    for site in facts.get("sites", [facts]):
        for purpose, part in site["purposes"].items():
            alone = f"{part['answers']} answers, epsilon {part['epsilon_alone']:.3f} by itself"
            screen.print(plain(f"{site['site']}: {purpose}, {alone}"), markup=False)
        ends = (site["next_round"] or {}).get("ends_after_round")
        if ends is not None:
            screen.print(
                plain(f"{site['site']}: the budget ends after round {ends} of this run."), markup=False
            )
    for name, round_ in facts.get("stopped", {}).items():
        screen.print(plain(f"{name} left the run at round {round_}: its budget was spent."), markup=False)


def _or_all(value: object) -> object:
    return "the run's own" if value is None else value


def _show_rows(screen: Console, title: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        screen.print(table(list(rows[0]), [list(row.values()) for row in rows], title=title))


def _show_plan(screen: Console, facts: dict[str, Any]) -> None:
    notes = {"warnings", "settings"}
    rows = [(name.replace("_", " "), _cell(value)) for name, value in facts.items() if name not in notes]
    screen.print(table(("what", "value"), rows, title="Plan"))
    for warning in facts["warnings"]:
        screen.print(plain(f"Note: {warning}."), markup=False)
    screen.print(
        plain("hansa simulate " + " ".join(f"--set {setting}" for setting in facts["settings"])), markup=False
    )


def _cell(value: object) -> str:
    if isinstance(value, tuple):
        return " to ".join(f"{part:.4g}" for part in value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {part:.4g}" for name, part in value.items())
    return f"{value:.4g}" if isinstance(value, float) else figure(value)
