"""What a site believes of spoiled groups: only what sites signed, and only if one of them must be honest.

Invariant: a site signs what its own checks refused; a refusal counts where more sites than `rounds.malicious_sites`
signed the same; one that was shown once can't be kept back later.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clients.secagg.keys import SiteKeys
from clients.secagg.orders import Order
from common.errors import WireError
from common.files import write_whole
from common.secagg.protocol import Attempt, groups_of
from common.secagg.suspicion import Judged, Refusal, from_json, judge, refusal_of, to_json
from common.settings.config import LeagueConfig


class Suspicion:
    """Refusals that a site signs, and those that it is shown."""

    def __init__(self, folder: Path, name: str, config: LeagueConfig, keys: SiteKeys) -> None:
        self._path, self._config, self._keys = folder / "refusals.json", config, keys
        self._run, self._where = config.digest(), f"site '{name}'"

    def signed(self, order: Order, refused: Sequence[int]) -> dict[str, Any]:
        """What the site tells of a round's sums: places that its checks refused, and its word for it."""
        if not refused or len(order.sums) < 2:
            return {"refused": list(refused)}
        message = refusal_of(self._run, order.round, order.sums, refused).message(self._run)
        return {"refused": list(refused), "signature": self._keys.sign.sign(message).hex()}

    def require_clean(self, attempt: Attempt, refusals: str) -> None:
        """Raises
        ------
        WireError : the attempt's group holds a site that is named, or the refusals don't hold.
        """
        self._without_named(attempt.names, self._judged(attempt.round, refusals))

    def require_groups(self, order: Order) -> None:
        """Raises
        ------
        WireError : the sums are not of the groups that the contract's seed and the refusals give.
        """
        cohort = [name for one in order.sums for name in one.attempt.names]
        judged = self._judged(order.round, order.refusals)
        drawn = groups_of(
            self._config.rounds, self._config.seed, order.round, cohort, suspects=judged.suspects
        )
        if [one.attempt.names for one in order.sums] != drawn or any(
            one.attempt.round != order.round for one in order.sums
        ):
            raise WireError("the sums are not of this round's groups", where=self._where)
        self._without_named(cohort, judged)

    def _without_named(self, names: Sequence[str], judged: Judged) -> None:
        if bad := sorted(set(names) & set(judged.named)):
            raise WireError(f"site '{bad[0]}' spoiled groups and is out", where=self._where)

    def _judged(self, round_: int, text: str) -> Judged:
        """The verdict before a round."""
        rounds = self._config.rounds
        shown = from_json(text, where=self._where)
        kept = from_json(self._path.read_text("utf-8"), where=self._where) if self._path.exists() else []
        if not set(map(_facts, (one for one in kept if one.round < round_))) <= set(map(_facts, shown)):
            raise WireError("the coordinator keeps refusals back", where=self._where)
        bundles = self._keys.peers() if shown else {}
        peers = {name: bytes.fromhex(bundle["ed25519"]) for name, bundle in bundles.items()}
        for before, one in zip([0, *(each.round for each in shown)], shown, strict=False):
            if not before < one.round < round_:
                raise WireError("the refusals are of other rounds", where=self._where)
            if len(one.signers(self._run, peers)) <= rounds.malicious_sites:
                raise WireError("too few sites signed a refusal", where=self._where)
        if len(shown) > len(kept):
            write_whole(self._path, to_json(shown).encode())
        return judge([group for one in shown for group in one.groups], rounds.malicious_sites)


def _facts(one: Refusal) -> tuple[Any, ...]:
    return one.round, one.sums, one.places
