"""The release: the best shared model, handed out to whom the contract names.

Invariant: where the contract leaves it to the sites (`rounds.release`), no vector in clear comes to the coordinator:
each site writes its own copy.
"""

from __future__ import annotations

from common.protocol.wire import FloatVector
from common.storage.release import write_files
from server.run.run import Run
from server.run.state import best_vector
from server.secagg.ask import ask, faults
from server.secagg.sums import release_vector


def release(run: Run) -> tuple[int, FloatVector | None]:
    """The round of the released model, and the model where the coordinator may have it.

    Raises
    ------
    QuorumError : no member gave the model, or too few wrote it.
    """
    state, names = run.state, run.names
    round_ = state.round if state.best_round is None else state.best_round
    facts = {
        "rounds": state.round, "best_round": round_, "best_metric": state.best_metric, "sites": names,
    }  # fmt: skip
    if run.rounds.release == "sites":
        answers = ask(run, "keep", {name: {"round": round_, "facts": facts} for name in names})
        reasons = faults(answers)
        run.require_quorum(names, [n for n in names if n not in reasons], "release", reasons)
        for name, reason in reasons.items():
            run.progress.note(f"Left out: {reason} (site '{name}', release)")
        return round_, None
    if run.rounds.encrypted:
        vector = release_vector(run, round_)
    else:
        round_, vector = best_vector(run.league, state)
    write_files(run.folder.release, run.config, state.layout, vector, facts | {"best_round": round_})
    return round_, vector
