"""`hansa bench`: measure, and show rows and ratios."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from common.errors import ConfigError
from simulations import benchmarks
from simulations.commands.output import Format, FormatOption, output_of, table


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which benchmark; see --list.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A smaller setting that shows the same.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print the names and stop.")] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa bench rounds --quick --format json`

    Runs one benchmark. Ratios carry over between machines; seconds don't.
    """
    if list_:
        known = benchmarks.names()
        output_of(context).result(form, {"benchmarks": known}, lambda screen: screen.print("\n".join(known)))
        return
    if not name:
        raise ConfigError("no benchmark was named", where="bench", next_step="hansa bench --list names them")
    result = benchmarks.run(name, quick)
    output_of(context).result(form, result, lambda screen: _show(screen, result))


def _show(screen: Console, result: benchmarks.BenchResult) -> None:
    headings = list(dict.fromkeys(key for row in result["rows"] for key in row))
    rows = [[row.get(key) for key in headings] for row in result["rows"]]
    screen.print(table(headings, rows, title=result["name"]))
    if result["ratios"]:
        screen.print(table(("ratio", "value"), list(result["ratios"].items())))
