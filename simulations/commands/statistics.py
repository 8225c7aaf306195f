"""`hansa statistics`: private counts of a site, paid from its own budget."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from simulations.arguments import SiteFolderArgument
from simulations.output import Format, FormatOption, note, output_of, table

DEFAULT = "popularity,segments,activity,ratings"


def statistics(
    context: typer.Context,
    site_folder: SiteFolderArgument,
    epsilon: Annotated[float, typer.Option(min=0.001, help="What all of them may cost a user, together.")],
    only: Annotated[str, typer.Option(help="Names with commas between; --list names them.")] = DEFAULT,
    top: Annotated[int, typer.Option(min=1, help="Rows of each.")] = 20,
    list_: Annotated[bool, typer.Option("--list", help="Print the names and stop.")] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa statistics my-shop --epsilon 0.5 --only popularity,segments`

    Counts users with noise that hides each of them, so that the result may leave the shop: for a quality report, for
    a cold start elsewhere, for advertising. The cost is taken from the site's own privacy budget before data are read.
    """
    from clients.statistics import STATISTICS, release

    if list_:
        names = list(STATISTICS)
        output_of(context).result(form, {"statistics": names}, lambda screen: screen.print("\n".join(names)))
        return
    released = release(site_folder, [name.strip() for name in only.split(",") if name.strip()], epsilon, top)
    document = {
        "epsilon": epsilon, "unit": "user", "relation": "add-remove",
        "statistics": [{**asdict(statistic), "rows": [list(row) for row in statistic.rows]} for statistic in released],
    }  # fmt: skip

    def show(screen: Console) -> None:
        for statistic in released:
            title = f"{statistic.name}: {statistic.mechanism}, ε {statistic.epsilon:.3g}"
            if statistic.within is not None:
                title += f", 95 % within ±{statistic.within}"
            screen.print(table(("value", "users"), statistic.rows, title=title))

    output_of(context).result(form, document, show)
    note(f"ε {epsilon:g} was taken from the budget of this site's users; `hansa budget` shows what is left.")
