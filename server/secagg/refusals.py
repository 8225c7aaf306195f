"""Refusals of group sums that sites signed: kept before the next round is drawn, and shown with each of its orders.

Invariant: what decides a round's draw are the refusals of the rounds before it, and they lie on the disk before the
draw, so a resumed run draws the same. Only a refusal that says something new is kept.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

from common.files import write_whole
from common.secagg.protocol import Attempt, GroupSum
from common.secagg.suspicion import Judged, SumRefusal, from_json, judge, refusal_of, to_json
from server.run.league import League
from server.secagg.ask import Answers
from server.secagg.keys import Bundles


def refusals_before(league: League, round_: int) -> list[SumRefusal]:
    """Kept refusals of the rounds before one."""
    path = _path(league)
    refusals = from_json(path.read_text("utf-8"), where=str(path)) if path.exists() else []
    return [refusal for refusal in refusals if refusal.round < round_]


def judged_before(league: League, round_: int) -> Judged:
    """Which sites are left out of a round, and which suspects are spread evenly over its groups."""
    return _judged(league, refusals_before(league, round_))


def note_refusal(
    league: League, round_: int, sums: str, answers: Answers, bundles: Bundles
) -> dict[str, str]:
    """Keep what most sites signed of a round's sums; sites that it names, with the reason.

    Parameters
    ----------
    sums : the round's, as `keep_sums` wrote them.
    answers : of the sites that tried or applied them.
    """
    before, after = refusals_before(league, round_), refusals_before(league, round_ + 1)
    if len(after) == len(before):
        refusal = _agreed(league, round_, sums, answers, bundles)
        if refusal is None or _judged(league, [*before, refusal]) == _judged(league, before):
            return {}
        after = [*before, refusal]
        write_whole(_path(league), to_json(after).encode())
    fresh = set(_judged(league, after).named) - set(_judged(league, before).named)
    refused = ", ".join(str(refusal.round) for refusal in after)
    return dict.fromkeys(sorted(fresh), f"in every group whose sum was refused (rounds {refused})")


def _agreed(league: League, round_: int, sums: str, answers: Answers, bundles: Bundles) -> SumRefusal | None:
    """The refusal that most of the sites that answered signed alike."""
    tables = {name: answer for name, answer in answers.items() if isinstance(answer, dict)}
    texts = {name: json.dumps(answer.get("refused") or []) for name, answer in tables.items()}
    [(text, _)] = Counter(texts.values()).most_common(1) or [("[]", 0)]
    groups = [GroupSum(Attempt.of(entry["attempt"]), entry["survivors"], []) for entry in json.loads(sums)]
    places = json.loads(text)
    if not isinstance(places, list) or not places or not set(places) <= set(range(len(groups))):
        return None
    signatures = {name: str(tables[name].get("signature", "")) for name in tables if texts[name] == text}
    refusal = replace(refusal_of(league.run, round_, groups, places), signatures=signatures)
    signers = refusal.signers(league.run, {name: bytes.fromhex(b["ed25519"]) for name, b in bundles.items()})
    if 2 * len(signers) <= len(tables) or len(signers) <= league.config.rounds.malicious_sites:
        return None
    return replace(refusal, signatures={name: signatures[name] for name in signers})


def _judged(league: League, refusals: list[SumRefusal]) -> Judged:
    groups = [group for refusal in refusals for group in refusal.groups]
    return judge(groups, league.config.rounds.malicious_sites)


def _path(league: League) -> Path:
    return league.folder.state / "refusals.json"
