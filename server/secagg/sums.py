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
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from common.errors import QuorumError, WireError
from common.files import read_json, write_json, write_whole
from common.protocol import wire
from common.secagg.protocol import REFUSED
from common.secagg.suspicion import to_json
from server.messages.exchange import exchange
from server.messages.screen import Expected, screen
from server.run.league import League, Roster, require_quorum
from server.secagg.ask import Answers, faults, replies
from server.secagg.keys import KeyRing
from server.secagg.refusals import refusals_before
from server.secagg.uploads import SealedSum

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


def keep_sums(league: League, round_: int, sums: Sequence[SealedSum], facts: dict[str, Any]) -> None:
    """Write a round's encrypted sums, and what came of the round; a group without survivors has none."""
    entries, parts = [], []
    for total in sums:
        saved = total.saved() if total.survivors else []
        entries.append({
            "attempt": total.attempt.to_json(), "survivors": total.survivors, "lengths": [len(p) for p in saved],
        })  # fmt: skip
        parts += saved
    write_whole(league.folder.state / f"sum-{round_:04d}.bin", b"".join(parts))
    write_json(
        league.folder.state / f"sum-{round_:04d}.json",
        {**facts, "sums": json.dumps(entries), "undone": "", "without": []},
    )


def kept_sums(league: League, round_: int) -> dict[str, Any] | None:
    """The facts of a round's sums that lie on the disk."""
    path = league.folder.state / f"sum-{round_:04d}.json"
    return dict(read_json(path)) if path.exists() else None


def undo(league: League, round_: int, why: str) -> None:
    """Write down that a round counts for nothing; `hand_out` then tells it to the sites."""
    kept = _kept(league, round_)
    write_json(league.folder.state / f"sum-{round_:04d}.json", {**kept, "undone": why})


def leave_out(league: League, round_: int, places: Sequence[int]) -> None:
    """Write down that some groups of a round don't count."""
    kept = _kept(league, round_)
    write_json(league.folder.state / f"sum-{round_:04d}.json", {**kept, "without": list(places)})


def hand_out(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, names: Sequence[str], round_: int, best: int | None,
    within_s: float | None = None,
) -> Handed:  # fmt: skip
    """Send a round's sums to all sites, with earlier ones to those that were away; compare what they hold then.

    A round whose sums most sites refuse is undone at all of them.

    Raises
    ------
    QuorumError : too few sites hold the same model.
    """
    present = roster.present(names)
    ends = None if within_s is None else time.monotonic() + within_s
    answers, sent = send_sums(grid, league, roster, keys, present, round_, best, within_s=within_s)
    no = [name for name, reason in faults(answers).items() if REFUSED in reason]
    if 2 * len(no) > len(present):
        undo(league, round_, faults(answers)[no[0]])
        answers, more = send_sums(grid, league, roster, keys, present, round_, best, within_s=_left(ends))
        sent += more
    sent += _missed(grid, league, roster, keys, answers, round_, best)
    digests = {n: str(a["digest"]) for n, a in answers.items() if isinstance(a, dict)}
    most = Counter(digests.values()).most_common(1)
    good = [name for name in present if most and digests.get(name) == most[0][0]]
    reasons = faults(answers) | {n: "holds another model than most" for n in digests if n not in good}
    require_quorum(league, list(names), good, f"handing out round {round_}", reasons)
    refused = next((list(answers[name].get("refused", [])) for name in good), [])
    return Handed(reasons, sent, refused, answers)


def catch_up(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, names: Iterable[str], round_: int, best: int | None,
    within_s: float | None = None,
) -> None:  # fmt: skip
    """Before the next round: give sites that may lack sums what they lack; those still away miss that round too."""
    present = roster.present(sorted(names))
    answers, _ = send_sums(grid, league, roster, keys, present, round_, best, within_s=within_s)
    _missed(grid, league, roster, keys, answers, round_, best)


def release_vector(
    grid: Grid, league: League, roster: Roster, layout: wire.Layout, names: Sequence[str], round_: int
) -> wire.FloatVector:
    """The model to release, from the steward or, where it is away, from the next member.

    Raises
    ------
    QuorumError : no member gave it.
    """
    reasons: dict[str, str] = {}
    for name in sorted(roster.present(names)):
        header = wire.Header(league.run, round_, layout=layout.digest, plan={"step": "release"})
        for _, reply in exchange(
            grid, {name: (roster.nodes[name], wire.pack(header))}, wire.SECURE, group="release",
            deadline_s=league.config.rounds.deadline_s,
        ):  # fmt: skip
            try:
                if reply is None:
                    raise WireError("no reply before the deadline", where=name)
                _, content = screen(reply, Expected(name, league.run, round_))
                vector = wire.decode_floats(content, layout.size, where=wire.place(name, round_))
                wire.check_finite(vector, where=wire.place(name, round_))
                return vector.copy()
            except WireError as fault:
                reasons[name] = fault.what
    raise QuorumError("no site gave the model to release", where="release", why=str(reasons))


def _missed(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, answers: Answers, round_: int, best: int | None
) -> int:  # fmt: skip
    """Send the sums that sites say they lack, in order; put their last answers in place; the bytes sent.

    A site that has no key for the first of them gets a member's newest model instead, sealed to it.
    """
    sent = 0
    behind = {n: int(a["round"]) for n, a in answers.items() if isinstance(a, dict) and not a["digest"]}
    for name, done in behind.items():
        first = done + 1
        if name not in keys.members_of(keys.epoch_of(first)):
            helpers = [
                peer for peer, answer in answers.items() if isinstance(answer, dict) and answer["digest"]
            ]
            first = pass_model(grid, league, roster, keys, name, helpers or sorted(roster.nodes)) + 1
        for missed in range(first, round_ + 1):
            keys.reach(keys.epoch_of(missed), [name])
            again, more = send_sums(grid, league, roster, keys, [name], missed, best)
            answers[name], sent = again[name], sent + more
    return sent


def pass_model(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, name: str, helpers: Sequence[str]
) -> int:
    """Let a member seal its model to a newcomer; the round that the newcomer stands after then, 0 where none did."""
    keys.reach(keys.last, [name])
    for helper in roster.present([peer for peer in helpers if peer != name]):
        header = wire.Header(league.run, plan={"step": "pass", "peer": name})
        asked = {helper: (roster.nodes[helper], wire.pack(header, vector=np.zeros(0, np.uint8)))}
        for _, reply in exchange(
            grid, asked, wire.SECURE, group="pass", deadline_s=league.config.rounds.deadline_s
        ):
            try:
                if reply is None:
                    raise WireError("no reply before the deadline", where=helper)
                _, content = screen(reply, Expected(helper, league.run))
                data = wire.decode_blob(content, _MOST_MODEL, where=helper)
            except WireError:
                continue  # the next member may have one
            header = wire.Header(league.run, plan={"step": "take", "peer": helper})
            order = wire.pack(header, vector=np.frombuffer(data, np.uint8))
            answer = replies(grid, league, {name: (roster.nodes[name], order)}, "take")[name]
            if isinstance(answer, dict):
                return int(answer["round"])
    return 0


def send_sums(
    grid: Grid, league: League, roster: Roster, keys: KeyRing, names: Sequence[str], round_: int, best: int | None, *,
    step: str = "apply", metric: str = "", within_s: float | None = None,
) -> tuple[Answers, int]:  # fmt: skip
    """Send a round's sums, to apply or to try; the answers, and the bytes sent."""
    kept = _kept(league, round_)
    undone = bool(kept["undone"])
    body = b"" if undone else (league.folder.state / f"sum-{round_:04d}.bin").read_bytes()
    plan: dict[str, str | int | float | bool] = {
        "step": step, "round": round_, "sums": "[]" if undone else kept["sums"],
        "best": -1 if best is None else best, "undo": undone, "epoch": keys.epoch_of(round_),
        "without": json.dumps(kept["without"]), "metric": metric,
        "refusals": to_json(refusals_before(league, round_)),
    }  # fmt: skip
    order = wire.pack(wire.Header(league.run, plan=plan), vector=np.frombuffer(body, np.uint8))
    requests = {name: (roster.nodes[name], order) for name in names}
    return replies(grid, league, requests, step, within_s), len(body) * len(requests)


def _kept(league: League, round_: int) -> dict[str, Any]:
    kept = kept_sums(league, round_)
    if kept is None:
        raise QuorumError(f"the sum of round {round_} is lost", where="state")
    return kept


def _left(ends: float | None) -> float | None:
    return None if ends is None else max(0.05, ends - time.monotonic())
