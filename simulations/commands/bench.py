"""`hansa bench`: measure, and show rows and ratios."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from common.errors import ConfigError
from simulations import benchmarks
from simulations.output import Format, FormatOption, note, output_of, table


def bench(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Which benchmark; see --list.")] = "",
    quick: Annotated[bool, typer.Option("--quick", help="A smaller setting that shows the same.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Print the names and stop.")] = False,
    only: Annotated[str, typer.Option(help="In parts: rows whose name has one of these words.")] = "",
    seeds: Annotated[str, typer.Option(help="In parts: whole numbers, commas between.")] = "",
    cells: Annotated[
        Path | None, typer.Option(help="In parts: a file of finished cells, gone on with where it ends.")
    ] = None,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa bench rounds --quick --format json`

    Runs one benchmark. Ratios carry over between machines; seconds don't. Long ones go in parts:
    `hansa bench malicious --only he+masked --seeds 0,1,2 --cells cells.jsonl`.
    """
    if list_:
        names = benchmarks.names()
        output_of(context).result(form, {"benchmarks": names}, lambda screen: screen.print("\n".join(names)))
        return
    if not name:
        raise ConfigError("no benchmark was named", where="bench", next_step="hansa bench --list names them")
    if only or seeds or cells:
        result = benchmarks.run_parts(name, only, _numbers(seeds), cells, note)
    else:
        result = benchmarks.run(name, quick)
    output_of(context).result(form, result, lambda screen: _show(screen, result))


def _numbers(text: str) -> list[int] | None:
    try:
        return [int(number) for number in text.split(",")] if text else None
    except ValueError:
        raise ConfigError(
            f"'{text}' is no list of seeds", where="--seeds", next_step="write e.g. --seeds 0,1,2"
        ) from None


def _show(screen: Console, result: benchmarks.BenchResult) -> None:
    headings = list(dict.fromkeys(key for row in result["rows"] for key in row))
    rows = [[row.get(key) for key in headings] for row in result["rows"]]
    screen.print(table(headings, rows, title=result["name"]))
    if result["ratios"]:
        screen.print(table(("ratio", "value"), list(result["ratios"].items())))
