"""`hansa simulate` and `hansa resume`: train a league on this machine, from data to report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from common.errors import ConfigError
from simulations.arguments import RunArgument, SetOption
from simulations.engines.forkserver import fork_server
from simulations.output import Format, FormatOption, note, output_of, plain, table
from simulations.runs.results import Metrics, RunSummary
from simulations.setup.options import DataSource, Encoders, Engine, Preset, SimulateOptions, parse_set

if TYPE_CHECKING:
    from common.reports.verdicts import Gain

_COST_HEADS = (
    "protection", "MB up", "MB down", "site CPU s", "coordinator CPU s", "coordinator sees", "with one site it sees",
)  # fmt: skip
_COST_TITLE = "Protections of this league, a site a round; the coordinator's time is for all sites"
_VERDICT_HEADS = ("site", "best of its own", "returning", "baskets", "together", "joining", "next step")
SHOWN_METRICS = ("ndcg@20", "basket_ndcg@20", "recall@20", "capped_recall@20", "auc", "log_loss")


def simulate(
    context: typer.Context,
    data: Annotated[
        DataSource, typer.Option(help="Where the sites come from; bazaar needs no data.")
    ] = "bazaar",
    path: Annotated[Path | None, typer.Option(help="Folder of the data.")] = None,
    sites_by: Annotated[str, typer.Option(help="Column that parts the data into sites.")] = "",
    run: Annotated[Path, typer.Option(help="The run folder to write.")] = Path("runs/latest"),
    engine: Annotated[Engine, typer.Option(help="This process, a process pool, or Flower on Ray.")] = "local",
    workers: Annotated[int, typer.Option(min=0, help="Processes of the pool; 0 is one per core.")] = 0,
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="A Ray cluster that is up, for --engine ray.")
    ] = "",
    rounds: Annotated[int | None, typer.Option(min=1, help="Rounds of training.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Same seed, same model.")] = None,
    encoders: Annotated[Encoders | None, typer.Option(help="Ready-made encoders, or trained here.")] = None,
    preset: Annotated[Preset | None, typer.Option(help="Size of the bazaar's merchants.")] = None,
    config: Annotated[Path | None, typer.Option(help="Settings file; `hansa init` writes one.")] = None,
    set_: SetOption = None,
    test_day: Annotated[str, typer.Option(help="Day to test on, e.g. 2020-09-21.")] = "",
    ablation: Annotated[
        bool, typer.Option("--ablation", help="Also measure each modality left out.")
    ] = False,
    no_compare: Annotated[bool, typer.Option("--no-compare", help="Federation only, no comparison.")] = False,
    no_report: Annotated[bool, typer.Option("--no-report", help="Write no report.html.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan, train nothing.")] = False,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa simulate --data hm --path ../data/hm --sites-by index_name --run runs/hm`

    Trains a league on this machine and writes what it learned, and what joining was worth, into the run folder.
    Knobs of the data source are set with `--set data.KEY=VALUE`, e.g. `--set data.users_per_site=100`.
    """
    overrides, data_overrides = parse_set(set_ or [])
    options = SimulateOptions(
        run=run, data=data, path=path, sites_by=sites_by, engine=engine, workers=workers,
        address=address, rounds=rounds, seed=seed,
        encoders=encoders, preset=preset, config=config, overrides=overrides, data_overrides=data_overrides,
        test_day=test_day, ablation=ablation, compare=not no_compare, report=not no_report, dry_run=dry_run,
        quiet=form is Format.json,
    )  # fmt: skip
    _check(options)
    # What trains sites imports on another core meanwhile.
    if engine == "pool" and not dry_run:
        fork_server().warm()
    # Imported here: torch and Flower take seconds, and `--help` doesn't wait for them.
    from simulations.runs.run import simulate as run_league

    summary = run_league(options)
    output_of(context).result(form, summary, lambda screen: show_summary(screen, summary))


def resume(
    context: typer.Context,
    run: RunArgument,
    form: FormatOption = Format.text,
) -> None:
    """Example: `hansa resume runs/demo`

    Goes on with a run that was stopped, at the round where it was stopped. The result equals the uninterrupted one.
    """
    from simulations.runs.run import resume as resume_league

    summary = resume_league(run)
    output_of(context).result(form, summary, lambda screen: show_summary(screen, summary))


def show_summary(screen: Console, summary: RunSummary) -> None:
    """Print what a run gave: its plan for a dry run, else the comparison and where the results lie."""
    if summary.plan:
        screen.print(table(("what", "value"), list(summary.plan.items()), title="Plan (nothing was trained)"))
        screen.print(table(_COST_HEADS, [_cost_row(row) for row in summary.protections], title=_COST_TITLE))
        return
    show_comparison(screen, summary.metrics)
    show_verdicts(screen, summary.headline, summary.verdicts)
    screen.print(f"{summary.rounds} rounds, {len(summary.sites)} sites, {summary.seconds:.1f} s.")
    screen.print(f"Results: {plain(summary.run)}", markup=False)
    if summary.report:
        screen.print(f"Report:  {plain(summary.report)}", markup=False)


def _cost_row(cost: Mapping[str, Any]) -> tuple[object, ...]:
    name = f"{cost['protection']} *" if cost["chosen"] else cost["protection"]
    sizes = (f"{cost[part] / 1e6:.2f}" for part in ("upload_bytes", "download_bytes"))
    seconds = (f"{cost[part]:.3f}" for part in ("site_cpu_s", "coordinator_cpu_s"))
    return name, *sizes, *seconds, cost["coordinator_sees"], cost["coordinator_with_a_site_sees"]


def show_comparison(screen: Console, metrics: Metrics) -> None:
    """Print the table of methods: the mean over sites, and the worst site in NDCG@20."""
    # Late: reports take their templates with them, and `--help` doesn't wait for these.
    from common.reports.story import METHODS

    methods = [name for name in METHODS if name in metrics] + sorted(set(metrics) - set(METHODS))
    if not methods:
        return
    rows = []
    for name in methods:
        means = [metrics[name].get(metric, {}).get("macro") for metric in SHOWN_METRICS]
        rows.append((name, *means, metrics[name].get("ndcg@20", {}).get("worst")))
    screen.print(table(("method", *SHOWN_METRICS, "worst ndcg@20"), rows, title="Mean over sites"))


def show_verdicts(
    screen: Console, headline: Mapping[str, Any] | None, verdicts: Sequence[Mapping[str, Any]]
) -> None:
    """Print whether joining paid: for each merchant, and then for the league, losses first."""
    from common.reports.verdicts import count_sentence, opponent_name, read_headline, read_verdicts

    found, head = read_verdicts(list(verdicts), {}), read_headline(headline)
    if found:
        rows = [
            (
                f"{row.site} (new to the league)" if row.held_out else row.site, opponent_name(row.best_alone).en,
                *(_gain(part) for part in (row.returning, row.baskets)), _gain(row.together, interval=True),
                row.verdict or "–", row.words.en.split(":")[0],
            )
            for row in found
        ]  # fmt: skip
        screen.print(
            table(_VERDICT_HEADS, rows, title="As deployed, against the best of each merchant's own")
        )
    if counts := count_sentence(found):
        screen.print(counts.en)
    if head:
        screen.print(f"{head.short.en} {head.sentence.en}", markup=False)


def _gain(part: Gain | None, *, interval: bool = False) -> str:
    if part is None:
        return "–"
    within = (
        f" [{part.low:+.0%}, {part.high:+.0%}]"
        if interval and part.low is not None and part.high is not None
        else ""
    )
    return f"{part.value:+.1%}{within}"


def _check(options: SimulateOptions) -> None:
    if options.data in ("hm", "ml100k", "folders") and options.path is None:
        raise ConfigError(
            f"--data {options.data} needs a folder", where="--path", next_step="give --path FOLDER"
        )
    if options.data == "bazaar" and options.path is not None:
        raise ConfigError(
            "the bazaar takes no folder", where="--path", next_step="leave --path out, or choose --data"
        )
    if options.data != "bazaar" and options.preset is not None:
        raise ConfigError("only the bazaar has presets", where="--preset", next_step="leave --preset out")
    if options.address and options.engine != "ray":
        raise ConfigError(
            f"--address has no meaning with --engine {options.engine}",
            where="--address",
            next_step="add --engine ray",
        )
    if options.workers and options.engine != "pool":
        note(f"--workers has no effect with --engine {options.engine}.")
