"""Keys as the coordinator passes them on: the members' public ones, and the league's key of each epoch, wrapped.

An epoch ends after `rounds.rotate_every` rounds, and whenever a member comes or leaves: one that left has no key for
what follows, one that came has none for what was before. Invariant: what was collected or wrapped lies on the disk
before any other site gets it, so a resumed run hands out the same; who missed an epoch's key is offered it again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from common.errors import QuorumError, WireError
from common.files import read_json, write_json
from common.provision.pinned import Pinned
from server.run.run import Run
from server.secagg.ask import Answers, ask, faults

Bundles = dict[str, dict[str, str]]


class KeyRing:
    """The keys of one run and the sites that hold each of them.

    Parameters
    ----------
    names : the members.

    Raises
    ------
    QuorumError : a member gave no public keys.
    """

    def __init__(self, run: Run, names: Sequence[str]) -> None:
        self._run, self._names = run, list(names)
        self._path = run.folder.state / "keys.json"
        self._has: dict[int, set[str]] = {}
        if self._path.exists():
            saved = read_json(self._path)
        else:
            saved = {"bundles": self._all(names, self._ask("offer", names, {})), "wrapped": {}, "epochs": []}
            write_json(self._path, saved)
        self._bundles: Bundles = saved["bundles"]
        self._pinned = Pinned.beside(run.folder.root)
        if self._pinned is not None:
            self._pinned.require(self._bundles, "keys")
        self._wrapped: dict[str, Any] = saved["wrapped"]
        self._epochs: list[dict[str, Any]] = saved["epochs"]

    @property
    def bundles(self) -> Bundles:
        """The present members' public keys."""
        return {name: self._bundles[name] for name in self._names}

    def admit(self, names: Sequence[str]) -> dict[str, str]:
        """Take newcomers' public keys; reasons of those that gave none."""
        unknown = [name for name in names if name not in self._bundles]
        answers = self._ask("offer", unknown, {}) if unknown else {}
        reasons = faults(answers)
        for name in [name for name in unknown if name not in reasons]:
            try:
                if self._pinned is not None:
                    self._pinned.require({name: answers[name]}, "keys")
                self._bundles[name] = answers[name]
            except WireError as fault:
                reasons[name] = fault.what
        self._save()
        return reasons

    def use(self, names: Sequence[str]) -> None:
        """From now on these are the members."""
        self._names = list(names)

    def epoch(self, round_: int) -> int:
        """The epoch of a round that is to come; a new one begins where the contract, or the list of members, asks."""
        last = self._epochs[-1] if self._epochs else None
        every = self._run.rounds.rotate_every
        if last is None or last["members"] != self._names or (every and round_ >= last["first"] + every):
            number = 1 if last is None else int(last["epoch"]) + 1
            self._epochs.append({"epoch": number, "first": round_, "members": list(self._names)})
            self._save()
        return self.epoch_of(round_)

    def epoch_of(self, round_: int) -> int:
        """The epoch of a round that was."""
        return max(int(entry["epoch"]) for entry in self._epochs if entry["first"] <= round_)

    @property
    def last(self) -> int:
        """The newest epoch."""
        return int(self._epochs[-1]["epoch"])

    def members_of(self, epoch: int) -> list[str]:
        """Who has an epoch's key."""
        return next(list(entry["members"]) for entry in self._epochs if entry["epoch"] == epoch)

    def reach(self, epoch: int, needed: Iterable[str] | None = None, within_s: float | None = None) -> None:
        """See that the present sites, or those needed, have an epoch's key; make it where no one has.

        Raises
        ------
        QuorumError : no key could be made, or too few members took it.
        """
        if self._run.rounds.encrypted and str(epoch) not in self._wrapped:
            self._wrap(epoch, within_s)
        holders = self._has.setdefault(epoch, set())
        members = self.members_of(epoch)
        present = [name for name in self._run.present(list(needed or members)) if name in members]
        lacking = [name for name in present if name not in holders]
        if not lacking:
            return
        order = {"bundles": self.bundles, "wrapped": self._wrapped.get(str(epoch))}
        answers = self._ask("install", lacking, order, within_s)
        holders.update(name for name in lacking if isinstance(answers[name], dict))
        if needed is None:
            good = [name for name in members if name in holders]
            self._run.require_quorum(members, good, f"keys of epoch {epoch}", faults(answers))

    def _wrap(self, epoch: int, within_s: float | None) -> None:
        """Let the first present member make the key, or the next one where it fails."""
        bundles = {name: self._bundles[name] for name in self.members_of(epoch)}
        reasons: dict[str, str] = {}
        for steward in self._run.present(sorted(bundles)):
            answers = self._ask("wrap", [steward], {"bundles": bundles, "epoch": epoch}, within_s)
            if isinstance(answers[steward], dict):
                self._wrapped[str(epoch)] = answers[steward]
                self._save()
                return
            reasons |= faults(answers)
        raise QuorumError(f"no member made the key of epoch {epoch}", where="keys", why=str(reasons))

    def _ask(
        self, step: str, names: Sequence[str], order: dict[str, Any], within_s: float | None = None
    ) -> Answers:
        return ask(self._run, step, dict.fromkeys(names, order), within_s)

    def _all(self, names: Sequence[str], answers: Answers) -> dict[str, Any]:
        reasons = faults(answers)
        if reasons:
            raise QuorumError(f"{len(reasons)} members gave no keys", where="keys", why=str(reasons))
        return {name: answers[name] for name in names}

    def _save(self) -> None:
        write_json(self._path, {"bundles": self._bundles, "wrapped": self._wrapped, "epochs": self._epochs})
