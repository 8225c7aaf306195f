"""The coordinator: a Flower ServerApp, and the table of contents of a run.

Invariant: the same app runs in this process, on a process pool, on Ray and in a deployment; it sees sites
only through Flower's public `Grid`. Started again on the same run folder it goes on where it was stopped.
"""

from __future__ import annotations

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from common.errors import HansaError
from common.files import write_json
from common.protocol import wire
from common.runtime.disk import full_disk, set_aside, use_what_was_set_aside
from common.runtime.progress import RoundProgress, Style
from server.messages.resend import SteadyGrid
from server.messages.watch import WatchedGrid
from server.rounds.evaluate import Phase, evaluate, measure_last
from server.rounds.loop import run_rounds
from server.rounds.prepare import prepare
from server.rounds.release import release
from server.rounds.roll_call import roll_call
from server.run.league import League
from server.run.run import Run
from server.run.state import restore, save

app = ServerApp()
_STYLES: dict[str, Style] = {"auto": "auto", "bar": "bar", "plain": "plain", "silent": "silent"}


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run the league named in the run configuration, from the start or from where it was stopped."""
    league = League.from_context(context)
    steady = SteadyGrid(grid, league.run) if context.run_config.get("deployed") else grid
    watched = WatchedGrid(steady, league.folder)
    with RoundProgress(_STYLES.get(str(context.run_config.get("progress", "auto")), "auto")) as progress:
        try:
            run_league(Run(watched, league, progress))
        except HansaError as fault:
            _write_down(league, fault)
            raise
        except OSError as fault:
            full = full_disk(fault, "the coordinator")
            if full is None:
                raise
            _write_down(league, full)
            raise full from None


def _write_down(league: League, fault: HansaError) -> None:
    # Flower's engine reports only that a run failed; whoever started it reads the reason here.
    use_what_was_set_aside(league.folder.state)
    write_json(league.folder.state / "failure.json", fault.as_dict())


def run_league(run: Run) -> None:
    """The story of a run."""
    (run.folder.state / "failure.json").unlink(missing_ok=True)
    set_aside(run.folder.state)
    restored = restore(run.league, run.progress)
    roll_call(run)
    if isinstance(run.grid, WatchedGrid):
        run.grid.meet(run.roster.nodes)
    if restored is None:
        run.state = prepare(run)
        save(run.league, run.state)
    else:
        run.state = restored

    run_rounds(run)
    measure_last(run)
    round_, vector = release(run)

    if run.league.compare:
        # Those left out of training too: what they could deploy alone is what they weigh joining against.
        evaluate(run, Phase(wire.EVALUATE_LOCAL, (*run.state.weights, *run.league.held_out)))
    # Who was left out of training has no copy of its own: it's measured where the coordinator has the model to send.
    names = run.league.names if vector is not None else tuple(run.names)
    evaluate(run, Phase(wire.EVALUATE_FINAL, names, vector, best=round_))
