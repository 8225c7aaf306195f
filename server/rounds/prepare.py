"""Before the first round: agree on the parameter layout, the weights and the first model.

Invariant: the first model comes from the contract's public seed, so any site can draw it and all draw the
same; the coordinator fetches the bytes from one site only and checks them against the digest that most
sites reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from common.errors import QuorumError, WireError
from common.models.optimisers import optimiser_for
from common.protocol import wire
from common.protocol.wire import FloatVector, Layout
from server.messages.screen import contract_weight
from server.run.run import Question, Reply, Run
from server.run.state import RunState


@dataclass(frozen=True)
class Ready:
    """What a member states when it's asked to get ready."""

    layout: str
    initial: str
    weight: float


def prepare(run: Run) -> RunState:
    """Ask every member to get ready and return the state before round 1.

    Raises
    ------
    QuorumError : too few members are ready with the same layout and first model.
    """
    names = run.present(run.league.members)
    run.progress.start("prepare", total=len(names))
    answers, reasons = ask_members(run, names, lambda done, name: run.progress.step(done, label=name))
    agreed = Counter((answer.layout, answer.initial) for answer in answers.values()).most_common(1)
    ready = [
        name
        for name in names
        if name in answers and (answers[name].layout, answers[name].initial) == agreed[0][0]
    ]
    reasons |= {name: "another layout or first model than most" for name in answers if name not in ready}
    for name, reason in sorted(reasons.items()):
        run.progress.note(f"Left out: {reason} (site '{name}', prepare)")
    run.require_quorum(run.league.members, ready, "prepare", reasons)
    layout, vector = _first_model(run, ready, agreed[0][0])
    weights = {name: answers[name].weight for name in ready}
    return RunState(layout, vector, weights, optimiser_for(run.rounds, layout.size))


def ask_members(
    run: Run, names: list[str], heard: Callable[[int, str], None] = lambda done, name: None
) -> tuple[dict[str, Ready], dict[str, str]]:
    """Ask members to get ready: what each states, and the reasons of those that can't.

    Parameters
    ----------
    heard : told how many have answered, and who did.
    """
    answers: dict[str, Ready] = {}
    reasons: dict[str, str] = {}

    def read(reply: Reply) -> Ready:
        weight = contract_weight(reply.header, run.rounds, where=reply.where)
        return Ready(reply.header.layout, str(reply.header.plan.get("initial", "")), weight)

    orders = dict.fromkeys(names, wire.pack(wire.Header(run=run.league.run, plan={"initial": False})))
    for name, answer in run.ask(Question(wire.PREPARE, "prepare"), orders, read):
        if isinstance(answer, WireError):
            reasons[name] = answer.what
        else:
            answers[name] = answer
        heard(len(answers) + len(reasons), name)
    return answers, reasons


def _first_model(run: Run, ready: list[str], agreed: tuple[str, str]) -> tuple[Layout, FloatVector]:
    """The first model as the first ready site that can gives it: its layout and digest are those agreed on."""

    def read(reply: Reply) -> tuple[Layout, FloatVector]:
        layout = Layout.from_json(str(reply.header.plan.get("layout", "")), where=reply.where)
        vector = wire.decode_floats(reply.content, layout.size, where=reply.where)
        wire.check_finite(vector, where=reply.where)
        if layout.digest != agreed[0] or wire.vector_digest(vector) != agreed[1]:
            raise WireError("the first model differs from the one most sites drew", where=reply.where)
        return layout, vector.copy()

    question = Question(wire.PREPARE, "initial", layout=agreed[0])
    order = wire.pack(wire.Header(run=run.league.run, plan={"initial": True}))
    reasons: list[str] = []
    for name in ready:
        for _, answer in run.ask(question, {name: order}, read):
            if not isinstance(answer, WireError):
                return answer
            reasons.append(answer.sentence())
    raise QuorumError("no site gave the first model", where="prepare", why="; ".join(reasons))
