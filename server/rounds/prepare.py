"""Before the first round: agree on the parameter layout, the weights and the first model.

Invariant: the first model comes from the contract's public seed, so any site can draw it and all draw the
same; the coordinator fetches the bytes from one site only and checks them against the digest that most
sites reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from flwr.serverapp import Grid

from common.errors import QuorumError, WireError
from common.models.optimisers import optimiser_for
from common.protocol import wire
from common.protocol.wire import FloatVector, Layout
from common.runtime.progress import RoundProgress
from server.messages.exchange import exchange
from server.messages.screen import Expected, contract_weight, screen
from server.run.league import League, Roster, require_quorum
from server.run.state import RunState


@dataclass(frozen=True)
class Ready:
    """What a member states when it's asked to get ready."""

    layout: str
    initial: str
    weight: float


def prepare(grid: Grid, league: League, roster: Roster, progress: RoundProgress) -> RunState:
    """Ask every member to get ready and return the state before round 1.

    Raises
    ------
    QuorumError : too few members are ready with the same layout and first model.
    """
    names = roster.present(league.members)
    progress.start("prepare", total=len(names))
    answers, reasons = ask_members(
        grid, league, roster, names, lambda done, name: progress.step(done, label=name)
    )
    agreed = Counter((answer.layout, answer.initial) for answer in answers.values()).most_common(1)
    ready = [
        name
        for name in names
        if name in answers and (answers[name].layout, answers[name].initial) == agreed[0][0]
    ]
    reasons |= {name: "another layout or first model than most" for name in answers if name not in ready}
    for name, reason in sorted(reasons.items()):
        progress.note(f"Left out: {reason} (site '{name}', prepare)")
    require_quorum(league, league.members, ready, "prepare", reasons)
    layout, vector = _first_model(grid, league, roster, ready, agreed[0][0])
    weights = {name: answers[name].weight for name in ready}
    return RunState(layout, vector, weights, optimiser_for(league.config.rounds, layout.size))


def ask_members(
    grid: Grid, league: League, roster: Roster, names: list[str],
    heard: Callable[[int, str], None] = lambda done, name: None,
) -> tuple[dict[str, Ready], dict[str, str]]:  # fmt: skip
    """Ask members to get ready: what each states, and the reasons of those that can't.

    Parameters
    ----------
    heard : told how many have answered, and who did.
    """
    content = wire.pack(wire.Header(run=league.run, plan={"initial": False}))
    requests = {name: (roster.nodes[name], content) for name in names}
    answers: dict[str, Ready] = {}
    reasons: dict[str, str] = {}
    deadline_s = league.config.rounds.deadline_s
    for name, reply in exchange(grid, requests, wire.PREPARE, group="prepare", deadline_s=deadline_s):
        try:
            if reply is None:
                raise WireError("no reply before the deadline", where=wire.place(name, 0))
            header, _ = screen(reply, Expected(name, league.run))
            weight = contract_weight(header, league.config.rounds, where=wire.place(name, 0))
            answers[name] = Ready(header.layout, str(header.plan.get("initial", "")), weight)
        except WireError as fault:
            reasons[name] = fault.what
        heard(len(answers) + len(reasons), name)
    return answers, reasons


def _first_model(
    grid: Grid, league: League, roster: Roster, ready: list[str], agreed: tuple[str, str]
) -> tuple[Layout, FloatVector]:
    content = wire.pack(wire.Header(run=league.run, plan={"initial": True}))
    deadline_s = league.config.rounds.deadline_s
    reasons: list[str] = []
    for name in ready:
        request = {name: (roster.nodes[name], content)}
        for _, reply in exchange(grid, request, wire.PREPARE, group="initial", deadline_s=deadline_s):
            where = wire.place(name, 0)
            try:
                if reply is None:
                    raise WireError("no reply before the deadline", where=where)
                header, records = screen(reply, Expected(name, league.run, layout=agreed[0]))
                layout = Layout.from_json(str(header.plan.get("layout", "")), where=where)
                vector = wire.decode_floats(records, layout.size, where=where)
                wire.check_finite(vector, where=where)
                if layout.digest != agreed[0] or wire.vector_digest(vector) != agreed[1]:
                    raise WireError("the first model differs from the one most sites drew", where=where)
                return layout, vector.copy()
            except WireError as fault:
                reasons.append(fault.sentence())
    raise QuorumError("no site gave the first model", where="prepare", why="; ".join(reasons))
