"""A league without data, keys or processes: each site answers what a test says, number by number.

Whatever the coordinator's functions take along is put together here and nowhere else. Time is the test's own too: it
moves only when the coordinator waits or a site works, so a silent site costs no seconds.
"""

from __future__ import annotations

import io
import re
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message, RecordDict

from common.files import read_lines
from common.models.optimisers import optimiser_for
from common.protocol import wire
from common.protocol.weights import weight_of
from common.protocol.wire import FloatVector, Header, Layout
from common.runtime.progress import RoundProgress
from common.settings.load import load_config
from common.storage.run_folder import RunFolder
from server.messages.exchange import exchange
from server.messages.watch import WatchedGrid
from server.rounds import evaluate
from server.rounds.loop import run_rounds
from server.rounds.membership import Doorway
from server.rounds.prepare import Ready, ask_members, prepare
from server.rounds.train import choose_cohort
from server.run.deadline import RoundClock
from server.run.guard import measure
from server.run.league import League, Roster
from server.run.run import Run
from server.run.state import METRIC, RunState
from simulations.engines.base import Task
from simulations.engines.local import LocalGrid

LAYOUT = Layout.of({"a": (1,), "b": (1,)})
OTHER = Layout.of({"c": (2,)})
FIRST_NODE = 1000


@dataclass
class Asked:
    """One message as its site got it."""

    kind: str
    header: Header
    vector: FloatVector | None
    group: str
    ttl: float


@dataclass
class Answer:
    """What a site is about to reply."""

    header: Header
    vector: Any = None
    metrics: dict[str, float] | None = None


class SiteFault(Exception):
    """Lets a site answer with an error in place of a reply."""


def first_number(asked: Asked) -> dict[str, float]:
    """A model is as good as its first number says, so that a test can follow it by hand."""
    return {METRIC: 0.0 if asked.vector is None else float(asked.vector[0])}


def nothing(asked: Asked) -> dict[str, float]:
    """A site that tells no figures."""
    return {}


def says(*values: float) -> Callable[[Asked], dict[str, float]]:
    """A site that tells these figures one after the other, whatever the model; the last one ever after."""
    left = list(values)
    return lambda asked: {METRIC: left.pop(0) if len(left) > 1 else left[0]}


@dataclass
class TinySite:
    """One site's answers, and all that it was asked.

    Parameters
    ----------
    update : its Δ in every round, or a function of the order.
    figures : what it says of a model that it trains on, measures or evaluates.
    bucket : what it states of its size; the weight is 1 for 0 and, by the square root, 2 for 4 and 4 for 8.
    silent : kinds of messages that it never answers.
    spoil : may change an answer before it leaves, or raise `SiteFault`.
    """

    update: Sequence[float] | Callable[[Asked], Sequence[float]] = (1.0, 2.0)
    figures: Callable[[Asked], dict[str, float]] = nothing
    bucket: Any = 0
    layout: Layout = LAYOUT
    first: Sequence[float] = (0.0, 0.0)
    silent: Iterable[str] = ()
    spoil: Callable[[Asked, Answer], None] = lambda asked, answer: None
    asked: list[Asked] = field(default_factory=list)

    def of(self, kind: str) -> list[Asked]:
        """What it was asked of one kind."""
        return [one for one in self.asked if one.kind == kind]

    def answer(self, name: str, asked: Asked) -> Answer:
        """Its honest answer, spoilt where the test wants it."""
        self.asked.append(asked)
        header = asked.header
        plan: dict[str, Any] = {}
        answer = Answer(header)
        if asked.kind == wire.HELLO:
            plan["clock"] = time.time()
        elif asked.kind == wire.PREPARE:
            first = np.array(self.first, dtype=np.float32)
            plan |= {"bucket": self.bucket, "initial": wire.vector_digest(first)}
            if header.plan["initial"]:
                plan["layout"], answer.vector = self.layout.to_json(), first
        elif asked.kind == wire.TRAIN:
            update = self.update(asked) if callable(self.update) else self.update
            plan["weight"], answer.vector = 1.0, np.array(update, dtype=np.float32)
            answer.metrics = self.figures(asked)
        else:
            answer.metrics = self.figures(asked)
        answer.header = Header(header.run, header.round, name, self.layout.digest, header.protection, plan)
        self.spoil(asked, answer)
        return answer


class TinyGrid(LocalGrid):
    """Sites of one process; those that aren't `connected` can't be seen.

    Parameters
    ----------
    backwards : replies come in the opposite order.
    """

    def __init__(self, sites: Mapping[str, TinySite]) -> None:
        self.sites, self.names = dict(sites), list(sites)
        self.connected, self.backwards = list(sites), False
        self.sent: list[tuple[str, str]] = []
        super().__init__(self._site, len(sites), {})

    def node_of(self, name: str) -> int:
        """The Flower node of a site."""
        return FIRST_NODE + self.names.index(name)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes that are connected."""
        return [self.node_of(name) for name in self.connected]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """The first reply of the asked ones, or the last."""
        if self.backwards:
            wanted = [id_ for id_ in self._tasks if id_ in set(message_ids)]
            return super().pull_messages(wanted[-1:])
        return super().pull_messages(message_ids)

    def _queue(self, task: Task, content: RecordDict) -> None:
        name = self.names[task.place]
        self.sent.append((name, task.message_type))
        if task.message_type not in self.sites[name].silent:
            super()._queue(task, content)

    def _site(self, message: Message, context: Context) -> Message:
        name = self.names[int(context.node_config["partition-id"])]
        header = wire.read_header(message.content, where="test")
        facts, vector = message.metadata, None
        if wire.VECTOR in message.content:
            vector = np.frombuffer(message.content.array_records[wire.VECTOR][wire.VECTOR].data, "<f4")
        try:
            answer = self.sites[name].answer(
                name, Asked(facts.message_type, header, vector, facts.group_id, facts.ttl)
            )
        except SiteFault as fault:
            return Message(Error(1000, str(fault)), reply_to=message)
        return Message(
            wire.pack(answer.header, vector=answer.vector, metrics=answer.metrics), reply_to=message
        )


class TestClock:
    """Time that moves only when somebody waits or works; stands in for the module `time`."""

    __test__ = False

    def __init__(self) -> None:
        self.now, self.slept = 1000.0, list[float]()

    def monotonic(self) -> float:
        """The time now."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Wait."""
        self.slept.append(seconds)
        self.now += seconds


def own_time(monkeypatch: pytest.MonkeyPatch) -> TestClock:
    """Give the coordinator's rooms a clock of their own."""
    clock = TestClock()
    for thing in (exchange, RoundClock, run_rounds):
        monkeypatch.setattr(sys.modules[thing.__module__], "time", clock)
    return clock


class Tiny:
    """A coordinator before, between or after its rounds, with its sites.

    Parameters
    ----------
    sites : name → site; the members are those that aren't held out, in the order of their names.
    away : sites that the roll call didn't find.
    rounds : settings of `rounds`, on top of equal weights, the plain mean and a deadline of a minute.
    """

    def __init__(
        self, folder: Path, sites: Mapping[str, TinySite], *,
        held_out: Sequence[str] = (), away: Sequence[str] = (), seed: int = 0, watched: bool = False,
        **rounds: Any,
    ) -> None:  # fmt: skip
        settings = {
            "protection": "plain", "count": 1, "optimiser": "average", "weights": "sqrt_users", "deadline_s": 60.0,
        } | rounds  # fmt: skip
        config = load_config({"seed": seed, "rounds": settings})
        self.sites, self.folder, self.rounds = dict(sites), RunFolder(folder), config.rounds
        self.tiny_grid = TinyGrid(sites)
        self.tiny_grid.connected = [name for name in sites if name not in away]
        self.grid = WatchedGrid(self.tiny_grid, self.folder) if watched else self.tiny_grid
        members = tuple(sorted(name for name in sites if name not in held_out))
        league = League(
            config, self.folder, members, tuple(held_out), False, folder / "receipts", config.digest()
        )
        self.folder.state.mkdir(parents=True)
        roster = Roster({name: self.tiny_grid.node_of(name) for name in sites if name not in away})
        self._heard = io.StringIO()
        self._run = Run(self.grid, league, RoundProgress("plain", self._heard), roster)
        self.state = self.fresh(list(members))
        self._doorway: Doorway | None = None

    def fresh(self, names: Sequence[str], vector: Sequence[float] = (0.0, 0.0)) -> RunState:
        """A state before the first round."""
        weights = {name: weight_of(self.rounds.weights, self.sites[name].bucket) for name in names}
        return RunState(
            LAYOUT, np.array(vector, dtype=np.float32), weights, optimiser_for(self.rounds, LAYOUT.size)
        )

    @property
    def league(self) -> League:
        """What the coordinator knows."""
        return self._run.league

    @league.setter
    def league(self, league: League) -> None:
        self._run.league = league

    @property
    def state(self) -> RunState:
        """Where the run stands."""
        return self._run.state

    @state.setter
    def state(self, state: RunState) -> None:
        self._run.state = state

    @property
    def roster(self) -> Roster:
        """Which node speaks for which site."""
        return self._run.roster

    @property
    def heard(self) -> list[str]:
        """What the person who waits was told, without the time that is left."""
        text = re.sub(r" *  about \d+ s left", "", self._heard.getvalue())
        return text.splitlines()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The log of rounds."""
        return read_lines(self.folder.rounds_file)

    def prepare(self) -> RunState:
        """Ask the members to get ready."""
        self.state = prepare(self._run)
        return self.state

    def ask_members(self, names: Sequence[str]) -> tuple[dict[str, Ready], dict[str, str]]:
        """Ask some to get ready."""
        return ask_members(self._run, list(names))

    def run(self) -> RunState:
        """The rounds that are still to do."""
        run_rounds(self._run)
        return self.state

    def cohort(self, round_: int) -> list[str]:
        """Who is drawn for a round."""
        self.state.round = round_ - 1
        return choose_cohort(self._run)

    def measure(self, round_: int, vector: Sequence[float] | None, within_s: float = 5.0) -> dict[str, Any]:
        """The guard's question."""
        asked = None if vector is None else np.array(vector, dtype=np.float32)
        self.state.round = round_ - 1
        return measure(self._run, asked, within_s)

    def measure_last(self) -> None:
        """Figures of the last model."""
        evaluate.measure_last(self._run)

    def evaluate(self, names: Sequence[str], vector: Sequence[float] | None, **best: int) -> dict[str, Any]:
        """The phase after training."""
        sent = None if vector is None else np.array(vector, dtype=np.float32)
        return evaluate.evaluate(self._run, evaluate.Phase(wire.EVALUATE_FINAL, names, sent, **best))

    def look(self) -> tuple[list[str], list[str]]:
        """Look for members that came or left."""
        if self._doorway is None:
            self._doorway = Doorway(self._run)
        return self._doorway.update()
