"""One run as the coordinator carries it: what was agreed, which node is which site, and where the run stands.

It's handed through `server` as a whole. Invariant: sites are asked through `Run.ask` alone (but for the roll call,
which doesn't know their names yet), so no reply is read by anyone before it was screened.

    run = Run(grid, league, progress)
    question = Question(wire.MEASURE, group="measure", layout=run.state.layout.digest)
    for site, figures in run.ask(question, dict.fromkeys(names, order), read=figures_of):
        ...  # what `read` made of the reply, or the WireError that says why there is none
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from flwr.app import RecordDict
from flwr.serverapp import Grid

from common.errors import QuorumError, WireError
from common.protocol import wire
from common.runtime.progress import RoundProgress
from common.settings.config import LeagueConfig, RoundsConfig
from common.storage.run_folder import RunFolder
from server.messages.exchange import exchange
from server.messages.screen import Expected, screen
from server.run.deadline import RoundClock
from server.run.league import League, Roster
from server.run.state import RunState

T = TypeVar("T")


@dataclass(frozen=True)
class Question:
    """What sites are asked, and what a good reply to it must state.

    Parameters
    ----------
    type : Flower's type of the messages.
    group : Flower's group of the messages.
    round, layout, protection : see `Expected`.
    within_s : seconds until missing replies are given up; None for a round's whole deadline.
    """

    type: str
    group: str
    round: int = 0
    layout: str = ""
    protection: str = "plain"
    within_s: float | None = None


@dataclass(frozen=True)
class Reply:
    """A site's screened reply; `where` names site and round for errors."""

    site: str
    header: wire.Header
    content: RecordDict
    where: str


@dataclass
class Run:
    """What always travels together.

    Parameters
    ----------
    roster : which node speaks for which site; empty before the roll call.
    """

    grid: Grid
    league: League
    progress: RoundProgress
    roster: Roster = field(default_factory=lambda: Roster({}))
    _state: RunState | None = None
    _clock: RoundClock | None = None

    @property
    def config(self) -> LeagueConfig:
        """The league's settings."""
        return self.league.config

    @property
    def rounds(self) -> RoundsConfig:
        """The settings of its rounds."""
        return self.league.config.rounds

    @property
    def folder(self) -> RunFolder:
        """Where the run is kept."""
        return self.league.folder

    @property
    def state(self) -> RunState:
        """Where the run stands; there is one once it was restored or the sites got ready."""
        if self._state is None:
            raise RuntimeError("the run has no state yet: neither restored nor prepared")
        return self._state

    @state.setter
    def state(self, state: RunState) -> None:
        self._state = state

    @property
    def round(self) -> int:
        """The round under way, or the next one: rounds count from 1."""
        return self.state.round + 1

    @property
    def names(self) -> list[str]:
        """The members that take part, in site order."""
        return sorted(self.state.weights)

    def begin_round(self) -> None:
        """From now on the round's time runs."""
        self._clock = RoundClock(self.rounds)

    def left_s(self, step: str) -> float:
        """Seconds until a step of the round under way has to end."""
        if self._clock is None:
            raise RuntimeError("no round has begun")
        return self._clock.left(step)

    def present(self, names: Sequence[str] | None = None) -> list[str]:
        """Those of the named sites, or of the members that take part, that a node speaks for."""
        return self.roster.present(self.names if names is None else names)

    def ask(
        self, question: Question, orders: Mapping[str, RecordDict], read: Callable[[Reply], T]
    ) -> Iterator[tuple[str, T | WireError]]:
        """Ask present sites, each with its order, and yield what came of each as replies come.

        Parameters
        ----------
        orders : site → records, in site order.
        read : makes of a screened reply what is wanted; may raise WireError, which is yielded like any other.
        """
        requests = {site: (self.roster.nodes[site], order) for site, order in orders.items()}
        deadline_s = self.rounds.deadline_s if question.within_s is None else question.within_s
        for site, reply in exchange(
            self.grid, requests, question.type, group=question.group, deadline_s=deadline_s
        ):
            where = wire.place(site, question.round)
            try:
                if reply is None:
                    raise WireError("no reply before the deadline", where=where)
                expected = Expected(
                    site, self.league.run, question.round, question.layout, question.protection
                )
                header, content = screen(reply, expected)
                answer: T | WireError = read(Reply(site, header, content, where))
            except WireError as fault:
                answer = fault
            yield site, answer

    def require_quorum(
        self, asked: Sequence[str], good: Sequence[str], where: str, reasons: Mapping[str, str]
    ) -> None:
        """Stop where too few of the asked sites took part.

        Raises
        ------
        QuorumError : names every site that is missing, with the reason.
        """
        need = self.league.quorum(len(asked))
        if len(good) >= need:
            return
        absent = [f"'{name}': {reasons.get(name, 'no answer')}" for name in asked if name not in set(good)]
        raise QuorumError(
            f"{len(good)} of {len(asked)} sites took part, but the quorum is {need}", where=where,
            why="; ".join(absent), next_step="mend or remove the sites named, or lower rounds.quorum, then resume",
        )  # fmt: skip
