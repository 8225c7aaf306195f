"""Who spoils groups: found by intersection of refused groups (group testing, Dorfman 1943), from signed refusals.

A group's sum that fails the checks holds a lie of at least one of its members: a mean of clipped updates always passes.
So the liars, of whom the contract allows `rounds.malicious_sites`, hit every refused group. A site is *named* when it's
in each set of so many sites that does; sites of the smallest such sets are *suspects*, and the next draw deals them out
evenly, so that a refusal halves them. Invariant: while no more sites lie than the contract allows, and the coordinator
hands out true sums, no honest site is named. Figures accuse nobody, only checks that each site makes for itself.

>>> groups = [["a", "b", "c", "d"], ["a", "b", "e"], ["a", "e", "f"]]
>>> judge(groups[:2], 1), judge(groups, 1)
(Judged(named=(), suspects=('a', 'b')), Judged(named=('a',), suspects=()))
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from common.crypto.container import canonical, check_signature
from common.errors import WireError
from common.secagg.protocol import GroupSum

MOST_NAMED = 2
"""Where the contract allows more liars than this nobody is named: the sets to look at grow with a power of it."""


@dataclass(frozen=True)
class Judged:
    """Sites that lied for certain, and sites of which some did; in site order."""

    named: tuple[str, ...] = ()
    suspects: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refusal:
    """What sites sign of a round in which group sums failed the checks.

    Parameters
    ----------
    sums : of each group the label of its attempt and the sites in its sum.
    places : the refused ones.
    signatures : by site, hex.
    """

    round: int
    sums: tuple[tuple[str, tuple[str, ...]], ...]
    places: tuple[int, ...]
    signatures: Mapping[str, str] = field(default_factory=dict)

    def message(self, run: str) -> bytes:
        """What is signed."""
        return b"hansa refusal 1\x00" + canonical([run, self.round, self.sums, self.places])

    @property
    def groups(self) -> list[tuple[str, ...]]:
        """Members of the refused groups."""
        return [self.sums[place][1] for place in self.places]

    def signers(self, run: str, keys: Mapping[str, bytes]) -> list[str]:
        """Sites that signed it, of those whose Ed25519 keys are known."""
        good = []
        for name, signature in sorted(self.signatures.items()):
            try:
                check_signature(keys[name], self.message(run), bytes.fromhex(signature), where=name)
                good.append(name)
            except (WireError, KeyError, ValueError, TypeError):
                continue
        return good


def judge(groups: Sequence[Collection[str]], malicious: int) -> Judged:
    """Who is named and who suspected after these groups were refused, in this order.

    Parameters
    ----------
    malicious : sites that may lie. Where more do, no set of so many explains the refusals, and nobody more is named.
    """
    named: set[str] = set()
    still: list[frozenset[str]] = []
    sets: list[frozenset[str]] = []
    for group in groups:
        members = frozenset(group)
        if members & named:
            continue
        still.append(members)
        sets = _explanations(still, malicious - len(named))
        certain = frozenset.intersection(*sets) if sets else frozenset()
        if certain:
            named |= certain
            still = [each for each in still if not each & certain]
            sets = _explanations(still, malicious - len(named)) if still else []
    return Judged(tuple(sorted(named)), tuple(sorted(frozenset().union(*sets))))


def refusal_of(run: str, round_: int, sums: Sequence[GroupSum], places: Sequence[int]) -> Refusal:
    """What there is to sign of a round's sums."""
    told = tuple((one.attempt.label(run), tuple(one.survivors)) for one in sums)
    return Refusal(round_, told, tuple(places))


def to_json(refusals: Sequence[Refusal]) -> str:
    """Refusals as they travel and lie on the disk."""
    return json.dumps([asdict(each) for each in refusals], sort_keys=True)


def from_json(text: str, *, where: str) -> list[Refusal]:
    """The inverse of `to_json`.

    Raises
    ------
    WireError : it can't be read.
    """
    try:
        return [_refusal(entry) for entry in json.loads(text)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, RecursionError):
        raise WireError("the refusals can't be read", where=where) from None


def _refusal(entry: Any) -> Refusal:
    sums = tuple((str(label), tuple(str(name) for name in names)) for label, names in entry["sums"])
    places = tuple(int(place) for place in entry["places"])
    if not places or not all(0 <= place < len(sums) for place in places):
        raise ValueError
    signatures = {str(name): str(signature) for name, signature in entry["signatures"].items()}
    return Refusal(int(entry["round"]), sums, places, signatures)


def _explanations(groups: Sequence[frozenset[str]], most: int) -> list[frozenset[str]]:
    """All smallest-by-inclusion sets of at most `most` sites that hit every group."""
    if not 0 < most <= MOST_NAMED:
        return []
    found: set[frozenset[str]] = set()
    _hit(groups, frozenset(), most, found)
    return [one for one in found if not any(other < one for other in found)]


def _hit(
    groups: Sequence[frozenset[str]], chosen: frozenset[str], most: int, found: set[frozenset[str]]
) -> None:
    missed = next((group for group in groups if not group & chosen), None)
    if missed is None:
        found.add(chosen)
    elif len(chosen) < most:
        for name in missed:
            _hit(groups, chosen | {name}, most, found)
