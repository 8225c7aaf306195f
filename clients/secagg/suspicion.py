"""Which reports of spoiled groups a site believes: those that so many sites signed that one of them must be honest.

Invariants: a site signs only what its own checks refused. A refusal counts if more than `rounds.malicious_sites` sites
signed the same one. The coordinator can't withhold later a refusal that it has shown before.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.secagg.keys import SiteKeys
from clients.secagg.sum_order import SumOrder
from common.errors import WireError
from common.files import write_whole
from common.secagg.protocol import Attempt, groups_of
from common.secagg.suspicion import Judged, SumRefusal, from_json, judge, refusal_of, to_json
from common.settings.config import LeagueConfig


class Suspicion:
    """The refusals that a site signs, and those that the coordinator shows it."""

    def __init__(self, folder: Path, name: str, config: LeagueConfig, keys: SiteKeys) -> None:
        self._path, self._config, self._keys = folder / "refusals.json", config, keys
        self._run, self._where = config.digest(), f"site '{name}'"

    def signed(self, order: SumOrder, refused: Sequence[int]) -> dict[str, Any]:
        """What the site answers about a round's sums: the places that its checks refused, and its signature on them."""
        if not refused or len(order.sums) < 2:
            return {"refused": list(refused)}
        message = refusal_of(self._run, order.round, order.sums, refused).message(self._run)
        return {"refused": list(refused), "signature": self._keys.sign.sign(message).hex()}

    def require_clean(self, attempt: Attempt, refusals: str) -> None:
        """Raises
        ------
        WireError : the attempt's group contains a named site, or the refusals aren't valid.
        """
        self._without_named(attempt.names, self._judged(attempt.round, refusals))

    def require_groups(self, order: SumOrder) -> None:
        """Raises
        ------
        WireError : the sums aren't those of the groups that follow from the contract's seed and the refusals.
        """
        cohort = [name for group_sum in order.sums for name in group_sum.attempt.names]
        judged = self._judged(order.round, order.refusals)
        groups = groups_of(
            self._config.rounds, self._config.seed, order.round, cohort, suspects=judged.suspects
        )
        if [group_sum.attempt.names for group_sum in order.sums] != groups or any(
            group_sum.attempt.round != order.round for group_sum in order.sums
        ):
            raise WireError("the sums are not of this round's groups", where=self._where)
        self._without_named(cohort, judged)

    def _without_named(self, names: Sequence[str], judged: Judged) -> None:
        if bad := sorted(set(names) & set(judged.named)):
            raise WireError(f"site '{bad[0]}' spoiled groups and is out", where=self._where)

    def _judged(self, round_: int, text: str) -> Judged:
        """Which sites are named or suspected before a round."""
        rounds = self._config.rounds
        shown = from_json(text, where=self._where)
        stored = from_json(self._path.read_text("utf-8"), where=self._where) if self._path.exists() else []
        if not set(map(_facts, (refusal for refusal in stored if refusal.round < round_))) <= set(
            map(_facts, shown)
        ):
            raise WireError("the coordinator keeps refusals back", where=self._where)
        bundles = self._keys.peers() if shown else {}
        peers = {name: bytes.fromhex(bundle["ed25519"]) for name, bundle in bundles.items()}
        for before, refusal in zip([0, *(refusal.round for refusal in shown)], shown, strict=False):
            if not before < refusal.round < round_:
                raise WireError("the refusals are of other rounds", where=self._where)
            if len(refusal.signers(self._run, peers)) <= rounds.malicious_sites:
                raise WireError("too few sites signed a refusal", where=self._where)
        if len(shown) > len(stored):
            write_whole(self._path, to_json(shown).encode())
        return judge([group for refusal in shown for group in refusal.groups], rounds.malicious_sites)


def _facts(refusal: SumRefusal) -> tuple[Any, ...]:
    return refusal.round, refusal.sums, refusal.places
