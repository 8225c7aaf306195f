"""Keys as the coordinator passes them on: the members' public ones, and the league's key of each epoch, wrapped.

Invariant: what was collected or wrapped lies on the disk before any other site gets it, so a resumed run hands out the
same; a site that missed an epoch's key is offered it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from flwr.serverapp import Grid

from common.errors import QuorumError
from common.provision.pinned import Pinned
from common.run_folder import read_json, write_json
from server.league import League, Roster, require_quorum
from server.sealed.ask import Answers, ask, faults

Bundles = dict[str, dict[str, str]]


class KeyRing:
    """The keys of one run, and who has which.

    Parameters
    ----------
    names : the members.

    Raises
    ------
    QuorumError : a member gave no public keys.
    """

    def __init__(self, grid: Grid, league: League, roster: Roster, names: Sequence[str]) -> None:
        self._grid, self._league, self._roster, self._names = grid, league, roster, list(names)
        self._path = league.folder.state / "keys.json"
        self._has: dict[int, set[str]] = {}
        if self._path.exists():
            kept = read_json(self._path)
        else:
            kept = {"bundles": self._all(names, self._ask("offer", names, {})), "wrapped": {}}
            write_json(self._path, kept)
        self.bundles: Bundles = kept["bundles"]
        pinned = Pinned.beside(league.folder.root)
        if pinned is not None:
            pinned.require(self.bundles, "keys")
        self._wrapped: dict[str, Any] = kept["wrapped"]

    def reach(self, epoch: int, needed: Iterable[str] | None = None) -> None:
        """See that the present sites, or those needed, have an epoch's key; make it where no one has.

        Raises
        ------
        QuorumError : no key could be made, or too few members took it.
        """
        if "he" in self._league.config.rounds.protection and str(epoch) not in self._wrapped:
            self._wrap(epoch)
        has = self._has.setdefault(epoch, set())
        present = self._roster.present(self._names if needed is None else needed)
        lacking = [name for name in present if name not in has]
        if not lacking:
            return
        order = {"bundles": self.bundles, "wrapped": self._wrapped.get(str(epoch))}
        answers = self._ask("install", lacking, order)
        has.update(name for name in lacking if isinstance(answers[name], dict))
        if needed is None:
            good = [name for name in self._names if name in has]
            require_quorum(self._league, self._names, good, f"keys of epoch {epoch}", faults(answers))

    def _wrap(self, epoch: int) -> None:
        """Let the first present member make the key."""
        steward = next(iter(self._roster.present(self._names)))
        asked = {"bundles": self.bundles, "epoch": epoch}
        self._wrapped[str(epoch)] = self._all([steward], self._ask("wrap", [steward], asked))[steward]
        write_json(self._path, {"bundles": self.bundles, "wrapped": self._wrapped})

    def _ask(self, step: str, names: Sequence[str], order: dict[str, Any]) -> Answers:
        return ask(self._grid, self._league, self._roster, step, dict.fromkeys(names, order))

    def _all(self, names: Sequence[str], answers: Answers) -> dict[str, Any]:
        reasons = faults(answers)
        if reasons:
            raise QuorumError(f"{len(reasons)} members gave no keys", where="keys", why=str(reasons))
        return {name: answers[name] for name in names}
