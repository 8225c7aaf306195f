"""Encrypted sums: kept before any site gets them, handed out, and taken back where they did harm.

Invariant: a round's sums lie on the disk before the first site gets them, together with whether the round was undone,
so a killed run hands out the same; sites that were away get the missed ones first; keyed digests of what the sites hold
then are compared, and one that is apart from most is named.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from common.errors import QuorumError, WireError
from common.files import read_json, write_json, write_whole
from common.protocol import wire
from common.secagg.protocol import REFUSED
from common.secagg.suspicion import to_json
from server.run.league import League
from server.run.run import Question, Reply, Run
from server.secagg.ask import Answers, faults, replies
from server.secagg.keys import KeyRing
from server.secagg.refusals import refusals_before
from server.secagg.uploads import SecureSum

_MOST_MODEL = 1 << 29


@dataclass(frozen=True)
class Handed:
    """What came of handing out a round's sums: sites apart from most and why, bytes sent, groups refused by a check.

    Parameters
    ----------
    answers : the sites' own, with what they signed of the sums.
    """

    apart: dict[str, str]
    nbytes: int
    refused: list[int]
    answers: Answers


@dataclass(frozen=True)
class SumsOrder:
    """What sites are to do with a round's sums.

    Parameters
    ----------
    within_s : seconds until missing answers are given up; None for a round's whole deadline.
    step : `apply` or `trial`.
    metric : the figure that a trial is judged by.
    """

    round: int
    within_s: float | None = None
    step: str = "apply"
    metric: str = ""


def keep_sums(league: League, round_: int, sums: Sequence[SecureSum], facts: dict[str, Any]) -> None:
    """Write a round's encrypted sums, and what came of the round; a group without survivors has none."""
    entries, parts = [], []
    for total in sums:
        saved = total.saved() if total.survivors else []
        entries.append({
            "attempt": total.attempt.to_json(), "survivors": total.survivors, "lengths": [len(p) for p in saved],
        })  # fmt: skip
        parts += saved
    write_whole(_body_file(league, round_), b"".join(parts))
    write_json(
        _facts_file(league, round_),
        {**facts, "sums": json.dumps(entries), "undone": "", "without": []},
    )


def kept_sums(league: League, round_: int) -> dict[str, Any] | None:
    """The facts of a round's sums that lie on the disk."""
    path = _facts_file(league, round_)
    return dict(read_json(path)) if path.exists() else None


def undo(league: League, round_: int, why: str) -> None:
    """Write down that a round counts for nothing; `hand_out` then tells it to the sites."""
    facts = _kept(league, round_)
    write_json(_facts_file(league, round_), {**facts, "undone": why})


def leave_out(league: League, round_: int, places: Sequence[int]) -> None:
    """Write down that some groups of a round don't count."""
    facts = _kept(league, round_)
    write_json(_facts_file(league, round_), {**facts, "without": list(places)})


def hand_out(run: Run, keys: KeyRing, round_: int, within_s: float | None = None) -> Handed:
    """Send a round's sums to all members, with earlier ones to those that were away; compare what they hold then.

    A round whose sums most sites refuse is undone at all of them.

    Raises
    ------
    QuorumError : too few sites hold the same model.
    """
    present = run.present()
    ends = None if within_s is None else time.monotonic() + within_s
    answers, sent = send_sums(run, keys, present, SumsOrder(round_, within_s))
    refusing = [name for name, reason in faults(answers).items() if REFUSED in reason]
    if 2 * len(refusing) > len(present):
        undo(run.league, round_, faults(answers)[refusing[0]])
        answers, more = send_sums(run, keys, present, SumsOrder(round_, _left_s(ends)))
        sent += more
    sent += _missed(run, keys, answers, round_)
    digests = {n: str(a["digest"]) for n, a in answers.items() if isinstance(a, dict)}
    most = Counter(digests.values()).most_common(1)
    good = [name for name in present if most and digests.get(name) == most[0][0]]
    reasons = faults(answers) | {n: "holds another model than most" for n in digests if n not in good}
    run.require_quorum(run.names, good, f"handing out round {round_}", reasons)
    refused = next((list(answers[name].get("refused", [])) for name in good), [])
    return Handed(reasons, sent, refused, answers)


def catch_up(run: Run, keys: KeyRing, names: Iterable[str], within_s: float | None = None) -> None:
    """Before the next round: give sites that may lack sums what they lack; those still away miss that round too."""
    done = run.state.round
    answers, _ = send_sums(run, keys, run.present(sorted(names)), SumsOrder(done, within_s))
    _missed(run, keys, answers, done)


def release_vector(run: Run, round_: int) -> wire.FloatVector:
    """The model to release, from the steward or, where it is away, from the next member.

    Raises
    ------
    QuorumError : no member gave it.
    """
    layout = run.state.layout

    def read(reply: Reply) -> wire.FloatVector:
        vector = wire.decode_floats(reply.content, layout.size, where=reply.where)
        wire.check_finite(vector, where=reply.where)
        return vector.copy()

    order = wire.pack(wire.Header(run.league.run, round_, layout=layout.digest, plan={"step": "release"}))
    reasons: dict[str, str] = {}
    for name in run.present():
        for _, answer in run.ask(Question(wire.SECURE, "release", round_), {name: order}, read):
            if not isinstance(answer, WireError):
                return answer
            reasons[name] = answer.what
    raise QuorumError("no site gave the model to release", where="release", why=str(reasons))


def _missed(run: Run, keys: KeyRing, answers: Answers, round_: int) -> int:
    """Send the sums that sites say they lack, in order; put their last answers in place; the bytes sent.

    A site that has no key for the first of them gets a member's newest model instead, encrypted to it.
    """
    sent = 0
    behind = {n: int(a["round"]) for n, a in answers.items() if isinstance(a, dict) and not a["digest"]}
    for name, done in behind.items():
        first = done + 1
        if name not in keys.members_of(keys.epoch_of(first)):
            helpers = [
                peer for peer, answer in answers.items() if isinstance(answer, dict) and answer["digest"]
            ]
            first = pass_model(run, keys, name, helpers or sorted(run.roster.nodes)) + 1
        for missed in range(first, round_ + 1):
            keys.reach(keys.epoch_of(missed), [name])
            again, more = send_sums(run, keys, [name], SumsOrder(missed))
            answers[name], sent = again[name], sent + more
    return sent


def pass_model(run: Run, keys: KeyRing, name: str, helpers: Sequence[str]) -> int:
    """Let a member encrypt its model to a newcomer; the round that the newcomer stands after then, 0 where none did."""
    keys.reach(keys.last, [name])
    header = wire.Header(run.league.run, plan={"step": "pass", "peer": name})
    order = wire.pack(header, vector=np.zeros(0, np.uint8))
    for helper in run.present([peer for peer in helpers if peer != name]):
        for _, data in run.ask(Question(wire.SECURE, "pass"), {helper: order}, _encrypted_model):
            if isinstance(data, WireError):
                continue  # the next member may have one
            header = wire.Header(run.league.run, plan={"step": "take", "peer": helper})
            taken = wire.pack(header, vector=np.frombuffer(data, np.uint8))
            answer = replies(run, "take", {name: taken})[name]
            if isinstance(answer, dict):
                return int(answer["round"])
    return 0


def send_sums(run: Run, keys: KeyRing, names: Sequence[str], order: SumsOrder) -> tuple[Answers, int]:
    """Send a round's sums, to apply or to try; the answers, and the bytes sent."""
    facts = _kept(run.league, order.round)
    undone, best = bool(facts["undone"]), run.state.best_round
    body = b"" if undone else _body_file(run.league, order.round).read_bytes()
    plan: dict[str, str | int | float | bool] = {
        "step": order.step, "round": order.round, "sums": "[]" if undone else facts["sums"],
        "best": -1 if best is None else best, "undo": undone, "epoch": keys.epoch_of(order.round),
        "without": json.dumps(facts["without"]), "metric": order.metric,
        "refusals": to_json(refusals_before(run.league, order.round)),
    }  # fmt: skip
    message = wire.pack(wire.Header(run.league.run, plan=plan), vector=np.frombuffer(body, np.uint8))
    answers = replies(run, order.step, dict.fromkeys(names, message), order.within_s)
    return answers, len(body) * len(names)


def _encrypted_model(reply: Reply) -> bytes:
    return wire.decode_blob(reply.content, _MOST_MODEL, where=reply.where)


def _kept(league: League, round_: int) -> dict[str, Any]:
    facts = kept_sums(league, round_)
    if facts is None:
        raise QuorumError(f"the sum of round {round_} is lost", where="state")
    return facts


def _facts_file(league: League, round_: int) -> Path:
    return league.folder.state / f"sum-{round_:04d}.json"


def _body_file(league: League, round_: int) -> Path:
    return league.folder.state / f"sum-{round_:04d}.bin"


def _left_s(ends: float | None) -> float | None:
    return None if ends is None else max(0.05, ends - time.monotonic())
