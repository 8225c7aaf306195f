"""The command `hansa`: registers all commands and handles their failures.

Invariant: no command ends in a traceback. Every fault becomes one explained failure with an exit code, on the standard
error for people and as the one JSON document for programs.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import typer

from simulations.commands import (
    answer,
    bench,
    budget,
    doctor,
    ingest,
    init,
    inspect,
    quality,
    simulate,
    statistics,
    watch,
)
from simulations.commands.failures import explain, tell
from simulations.deployment.commands import coordinator, league, provision, site, vault
from simulations.output import Output, only_document, wants_json

HELP = """
Example: `hansa simulate --data bazaar --run runs/demo` trains a league here and writes runs/demo/report.html.

Merchants train one recommender and one behaviour predictor together; their reviews, pictures and logs stay at home.
"""

app = typer.Typer(
    name="hansa", help=HELP, add_completion=False, rich_markup_mode="markdown",
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]},
)  # fmt: skip

_COMMANDS: tuple[tuple[str, str, Callable[..., None], str], ...] = (
    ("Train", "simulate", simulate.simulate, "Train a league on this machine, from data to report."),
    ("Train", "resume", simulate.resume, "Go on with a run that was stopped."),
    ("Look", "status", inspect.status, "How far a run has come."),
    ("Look", "dashboard", watch.dashboard, "Show a run in the browser while it goes."),
    ("Look", "evaluate", inspect.evaluate, "Measure the released model again."),
    ("Look", "report", inspect.report, "Write the HTML report anew."),
    ("Use", "recommend", answer.recommend, "Rank a site's catalogue for one user."),
    ("Use", "predict", answer.predict, "How probable a purchase is, and what comes next."),
    ("Data", "ingest", ingest.ingest, "Seal a site in its vault, clean and under pseudonyms."),
    ("Data", "quality", quality.quality, "Judge a site's data."),
    ("Set up", "provision", provision.provision, "Make the kits of a league across machines."),
    ("Data", "statistics", statistics.statistics, "Tell private counts of a site, from its budget."),
    ("Set up", "init", init.init, "Write a settings file to start from."),
    ("Set up", "doctor", doctor.doctor, "Look whether this machine has what is needed."),
    ("Measure", "bench", bench.bench, "Run a benchmark."),
)
for _panel, _name, _function, _short in _COMMANDS:
    app.command(_name, rich_help_panel=_panel, short_help=_short)(_function)

app.add_typer(
    league.app, name="league", rich_help_panel="Train", short_help="Rehearse a league of separate processes."
)
app.add_typer(
    coordinator.app, name="coordinator", rich_help_panel="Train", short_help="Run a league across machines."
)
app.add_typer(
    site.app, name="site", rich_help_panel="Train", short_help="A site of a league across machines."
)
app.add_typer(budget.app, name="budget", rich_help_panel="Look", short_help="What a site may still spend.")
app.add_typer(vault.app, name="vault", rich_help_panel="Set up", short_help="A site's encrypted store.")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with only_document() if wants_json(words) else nullcontext() as write:
        output = Output()
        code, failure = _call(words, output)
        if failure is not None and write is None:
            tell(failure)
        elif write is not None and (failure is not None or output.ready):
            write(failure if failure is not None else output.document)
    return code


def _call(arguments: list[str], output: Output) -> tuple[int, dict[str, str | int] | None]:
    try:
        command = typer.main.get_command(app)
        code = command.main(arguments or ["--help"], prog_name="hansa", standalone_mode=False, obj=output)
    except BrokenPipeError:
        return 0, None
    except (Exception, KeyboardInterrupt) as fault:  # noqa: BLE001 - the one place where every failure is explained
        failure = explain(fault)
        return int(failure["exit_code"]), failure
    return (code if isinstance(code, int) else 0), None


if __name__ == "__main__":
    sys.exit(main())
