"""Finding sites that spoil groups, by intersecting refused groups (group testing, Dorfman 1943) of signed refusals.

A mean of clipped updates always passes the checks, so a group whose sum fails them has at least one lying member. The
contract allows `rounds.malicious_sites` liars. An *explanation* is a set of at most so many sites that has a member in
every refused group. A site that is in every explanation is *named*. Sites in the smallest explanations are *suspects*:
the next draw spreads them evenly over the groups, so that each refusal halves their number.

Invariant: while no more sites lie than the contract allows, and the coordinator hands out true sums, no honest site is
named. Only checks that each site makes for itself count against a site, never figures that another one reports.

>>> groups = [["a", "b", "c", "d"], ["a", "b", "e"], ["a", "e", "f"]]
>>> judge(groups[:2], 1), judge(groups, 1)
(Judged(named=(), suspects=('a', 'b')), Judged(named=('a',), suspects=()))
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from common.canonical import canonical
from common.crypto.container import check_signature
from common.errors import WireError
from common.secagg.protocol import GroupSum

MOST_NAMED = 2
"""If the contract allows more liars than this, nobody is named: the number of sets to try grows too fast."""


@dataclass(frozen=True)
class Judged:
    """Sites that lied for certain (`named`), and sites of which some lied (`suspects`), in site order."""

    named: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class SumRefusal:
    """What sites sign after a round in which group sums failed the checks.

    Parameters
    ----------
    sums : for each group, the label of its attempt and the sites in its sum.
    places : which of the groups were refused.
    signatures : by site, in hex.
    """

    round: int
    sums: tuple[tuple[str, tuple[str, ...]], ...]
    places: tuple[int, ...]
    signatures: Mapping[str, str] = field(default_factory=dict)

    def message(self, run: str) -> bytes:
        """The bytes that are signed."""
        return b"hansa refusal 1\x00" + canonical([run, self.round, self.sums, self.places])

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Members of the refused groups."""
        return [self.sums[place][1] for place in self.places]

    def signers(self, run: str, keys: Mapping[str, bytes]) -> list[str]:
        """The sites that signed this refusal, among those whose Ed25519 keys are known."""
        good = []
        for name, signature in sorted(self.signatures.items()):
            try:
                check_signature(keys[name], self.message(run), bytes.fromhex(signature), where=name)
                good.append(name)
            except (WireError, KeyError, ValueError, TypeError):
                continue
        return good


def judge(groups: Sequence[Collection[str]], malicious: int) -> Judged:
    """Which sites are named and which suspected after these groups were refused, in this order.

    Parameters
    ----------
    malicious : how many sites may lie. If more do, no set of that size explains the refusals, and nobody else is named.
    """
    named: set[str] = set()
    unexplained: list[frozenset[str]] = []
    sets: list[frozenset[str]] = []
    for group in groups:
        members = frozenset(group)
        if members & named:
            continue
        unexplained.append(members)
        sets = _explanations(unexplained, malicious - len(named))
        certain = frozenset.intersection(*sets) if sets else frozenset()
        if certain:
            named |= certain
            unexplained = [refused for refused in unexplained if not refused & certain]
            sets = _explanations(unexplained, malicious - len(named)) if unexplained else []
    return Judged(tuple(sorted(named)), tuple(sorted(frozenset().union(*sets))))


def refusal_of(run: str, round_: int, sums: Sequence[GroupSum], places: Sequence[int]) -> SumRefusal:
    """The refusal of some of a round's sums, still unsigned."""
    labelled = tuple((group_sum.attempt.label(run), tuple(group_sum.survivors)) for group_sum in sums)
    return SumRefusal(round_, labelled, tuple(places))


def to_json(refusals: Sequence[SumRefusal]) -> str:
    """Refusals as text, for messages and for the disk."""
    return json.dumps([asdict(refusal) for refusal in refusals], sort_keys=True)


def from_json(text: str, *, where: str) -> list[SumRefusal]:
    """The inverse of `to_json`.

    Raises
    ------
    WireError : it can't be read.
    """
    try:
        return [_refusal(entry) for entry in json.loads(text)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        raise WireError("the refusals can't be read", where=where) from None


def _refusal(entry: Any) -> SumRefusal:
    sums = tuple((str(label), tuple(str(name) for name in names)) for label, names in entry["sums"])
    places = tuple(int(place) for place in entry["places"])
    if not places or not all(0 <= place < len(sums) for place in places):
        raise ValueError
    signatures = {str(name): str(signature) for name, signature in entry["signatures"].items()}
    return SumRefusal(int(entry["round"]), sums, places, signatures)


def _explanations(groups: Sequence[frozenset[str]], most: int) -> list[frozenset[str]]:
    """All sets of at most `most` sites that have a member in every group and contain no smaller such set."""
    if not 0 < most <= MOST_NAMED:
        return []
    hitting: set[frozenset[str]] = set()
    _hit(groups, frozenset(), most, hitting)
    return [chosen for chosen in hitting if not any(other < chosen for other in hitting)]


def _hit(
    groups: Sequence[frozenset[str]], chosen: frozenset[str], most: int, hitting: set[frozenset[str]]
) -> None:
    missed = next((group for group in groups if not group & chosen), None)
    if missed is None:
        hitting.add(chosen)
    elif len(chosen) < most:
        for name in missed:
            _hit(groups, chosen | {name}, most, hitting)
