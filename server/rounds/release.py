"""The release: the best shared model, handed out to whom the contract names.

Invariant: where the contract leaves it to the sites (`rounds.release`), no vector in clear comes to the coordinator:
each site writes its own copy.
"""

from __future__ import annotations

from flwr.serverapp import Grid

from common.protocol.wire import FloatVector
from common.runtime.progress import RoundProgress
from common.storage.release import write_files
from server.run.league import League, Roster, require_quorum
from server.run.state import RunState, best_vector
from server.secagg.ask import ask, faults
from server.secagg.sums import release_vector


def release(
    grid: Grid, league: League, roster: Roster, state: RunState, progress: RoundProgress
) -> tuple[int, FloatVector | None]:
    """The round of the released model, and the model where the coordinator may have it.

    Raises
    ------
    QuorumError : no member gave the model, or too few wrote it.
    """
    rounds, names = league.config.rounds, sorted(state.weights)
    round_ = state.round if state.best_round is None else state.best_round
    facts = {
        "rounds": state.round, "best_round": round_, "best_metric": state.best_metric, "sites": names,
    }  # fmt: skip
    if rounds.release == "sites":
        answers = ask(
            grid, league, roster, "keep", {name: {"round": round_, "facts": facts} for name in names}
        )
        reasons = faults(answers)
        require_quorum(league, names, [n for n in names if n not in reasons], "release", reasons)
        for name, reason in reasons.items():
            progress.note(f"Left out: {reason} (site '{name}', release)")
        return round_, None
    if rounds.encrypted:
        vector = release_vector(grid, league, roster, state.layout, names, round_)
    else:
        round_, vector = best_vector(league, state)
    write_files(league.folder.release, league.config, state.layout, vector, facts | {"best_round": round_})
    return round_, vector
