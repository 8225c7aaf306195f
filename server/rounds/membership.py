"""Who takes part from a round on: members that came late, and those that the league's list no longer names.

Invariant: only names of the league's list take part, and each is one node; whoever comes states the layout that the
league agreed on, or stays out.
"""

from __future__ import annotations

from flwr.serverapp import Grid

from common.runtime.progress import RoundProgress
from server.messages.watch import WatchedGrid
from server.rounds.prepare import ask_members
from server.run.league import League, Roster, welcome
from server.run.state import RunState


class Doorway:
    """Looks for changes before each round; a member that was turned away isn't asked again."""

    def __init__(self, grid: Grid, league: League, roster: Roster, progress: RoundProgress) -> None:
        self._grid, self._league, self._roster, self._progress = grid, league, roster, progress
        self._asked: set[str] = set()

    def update(self, state: RunState) -> tuple[list[str], list[str]]:
        """Change the state's members; sites that are connected again, and those that are members from now on."""
        for name in [name for name in state.weights if name not in self._league.members]:
            del state.weights[name]
            self._progress.note(f"Left the league: site '{name}'")
        connected = welcome(self._grid, self._league, self._roster, self._progress)
        if connected and isinstance(self._grid, WatchedGrid):
            self._grid.meet(self._roster.nodes)
        waiting = [n for n in self._league.members if n not in state.weights and n not in self._asked]
        waiting = self._roster.present(waiting)
        return connected, self._join(state, waiting) if waiting else []

    def _join(self, state: RunState, names: list[str]) -> list[str]:
        self._asked.update(names)
        answers, reasons = ask_members(self._grid, self._league, self._roster, names)
        fit = {
            name: answer.weight for name, answer in answers.items() if answer.layout == state.layout.digest
        }
        reasons |= {name: "another layout than the league's" for name in answers if name not in fit}
        for name, reason in sorted(reasons.items()):
            self._progress.note(f"Left out: {reason} (site '{name}')")
        for name in sorted(fit):
            self._progress.note(f"Joined the league: site '{name}'")
        state.weights = dict(sorted({**state.weights, **fit}.items()))
        return sorted(fit)
