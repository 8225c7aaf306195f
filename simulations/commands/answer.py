"""`hansa recommend` and `hansa predict`: ask a finished run about one user, known or never seen."""

from __future__ import annotations

from typing import Annotated

import typer

from common.errors import ConfigError
from simulations.arguments import RunArgument
from simulations.output import Format, FormatOption, output_of, table

SiteOption = Annotated[str, typer.Option(help="The site whose catalogue and users are meant.")]
UserOption = Annotated[str, typer.Option(help="A user of the site.")]
HistoryOption = Annotated[str, typer.Option(help="Items of a user never seen, oldest first: id1,id2,...")]


def recommend(
    context: typer.Context,
    run: RunArgument,
    site: SiteOption,
    user: UserOption = "",
    history: HistoryOption = "",
    count: Annotated[int, typer.Option("-k", "--count", min=1, max=1000, help="How many items.")] = 10,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa recommend runs/demo --site SITE --history item1,item2 -k 10`

    Ranks the site's catalogue for one of its users, or for a history of items that no training ever saw.
    """
    items = _who(user, history)
    from simulations.runs.serve import recommend as ask

    items_found = ask(run, site, user or None, items, count)
    rows = [(item.rank, item.item_id, item.title, item.score, item.why) for item in items_found]
    document = {"site": site, "user": user or None, "history": items, "recommendations": items_found}
    output_of(context).result(
        form, document, lambda screen: screen.print(table(("#", "item", "title", "score", "why"), rows))
    )


def predict(
    context: typer.Context,
    run: RunArgument,
    site: SiteOption,
    user: UserOption = "",
    history: HistoryOption = "",
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa predict runs/demo --site SITE --user USER`

    Says how probable a purchase is in the user's next session, and what the user will probably do next.
    """
    items = _who(user, history)
    from simulations.runs.serve import predict as ask

    prediction = ask(run, site, user or None, items)
    rows = [
        ("purchase intent", prediction.purchase_intent),
        ("next event", prediction.next_event),
        ("its probability", prediction.next_event_probability),
    ]
    output_of(context).result(
        form,
        {"site": site, "prediction": prediction},
        lambda screen: screen.print(table(("what", "value"), rows)),
    )


def _who(user: str, history: str) -> list[str]:
    items = [item.strip() for item in history.split(",") if item.strip()]
    if bool(user) == bool(items):
        raise ConfigError(
            "say whom to answer for", where="--user, --history",
            why="exactly one of the two is needed", next_step="give --user ID or --history item1,item2",
        )  # fmt: skip
    return items
