"""Who takes part from a round on: members that came late, and those that the league's list no longer names.

Invariant: only names of the league's list take part, and each is one node; whoever comes states the layout that the
league agreed on, or stays out.
"""

from __future__ import annotations

from server.messages.watch import WatchedGrid
from server.rounds.prepare import ask_members
from server.rounds.roll_call import welcome
from server.run.run import Run


class Doorway:
    """Looks for changes before each round; a member that was turned away isn't asked again."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._asked: set[str] = set()

    def update(self) -> tuple[list[str], list[str]]:
        """Change the run's members; sites that are connected again, and those that are members from now on."""
        run, weights = self._run, self._run.state.weights
        for name in [name for name in weights if name not in run.league.members]:
            del weights[name]
            run.progress.note(f"Left the league: site '{name}'")
        connected = welcome(run)
        if connected and isinstance(run.grid, WatchedGrid):
            run.grid.meet(run.roster.nodes)
        waiting = [n for n in run.league.members if n not in weights and n not in self._asked]
        waiting = run.present(waiting)
        return connected, self._join(waiting) if waiting else []

    def _join(self, names: list[str]) -> list[str]:
        run = self._run
        self._asked.update(names)
        answers, reasons = ask_members(run, names)
        layout = run.state.layout.digest
        fit = {name: answer.weight for name, answer in answers.items() if answer.layout == layout}
        reasons |= {name: "another layout than the league's" for name in answers if name not in fit}
        for name, reason in sorted(reasons.items()):
            run.progress.note(f"Left out: {reason} (site '{name}')")
        for name in sorted(fit):
            run.progress.note(f"Joined the league: site '{name}'")
        run.state.weights = dict(sorted({**run.state.weights, **fit}.items()))
        return sorted(fit)
