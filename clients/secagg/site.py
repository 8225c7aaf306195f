"""A site's half of secure aggregation: protect an update, apply a sum.

Invariants: a mask is used for one upload only. A site signs one survivor set per round. Where updates are encrypted,
only the sites hold the model, the optimiser's state and the league's key, and each applies the same sums in the same
order. `masking` keeps the first two, `model` and `keys` the third. An update is protected by a list of steps
(`common.secagg.pipeline`, `clients.secagg.steps`).
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from clients.secagg.keys import SiteKeys
from clients.secagg.masking import Masking
from clients.secagg.model import OwnModel
from clients.secagg.shared_noise import digest_of, noisy_integers
from clients.secagg.steps import UPDATES, site_steps
from clients.secagg.sum_order import SumOrder
from clients.secagg.suspicion import Suspicion
from common.errors import WireError
from common.he.cipher import Key, Values
from common.protocol import wire
from common.provision.pinned import Pinned
from common.secagg.pipeline import OPEN_STEPS, Parcel, Step, Terms, open_sum, send
from common.secagg.protocol import REFUSED, Attempt, GroupSum
from common.settings.config import LeagueConfig
from common.storage.release import write_files


class SecaggSite:
    """Keys and private state of one site in one run.

    Parameters
    ----------
    folder : the site's private folder, of mode 0700.
    """

    def __init__(
        self,
        folder: Path,
        name: str,
        config: LeagueConfig,
        trainer: wire.Trainer,
        pinned: Pinned | None = None,
    ) -> None:
        for private in (folder, folder / "model"):  # what is written within is 0600 from its creation
            private.mkdir(parents=True, exist_ok=True, mode=0o700)
            private.chmod(0o700)
        self.name, self._config, self._trainer, self._folder = name, config, trainer, folder
        self._run, self._where = config.digest(), f"site '{name}'"
        self._keys = SiteKeys(folder, name, config, pinned)
        self._masking = Masking(folder, name, config, self._keys)
        self._model = OwnModel(folder / "model", name, config, trainer)
        self._suspicion = Suspicion(folder, name, config, self._keys)

    def answer(self, step: str, question: dict[str, Any]) -> dict[str, Any]:
        """Answer one step of the protocol between rounds.

        Raises
        ------
        WireError : the coordinator asks for what the contract doesn't allow.
        """
        try:
            if step == "offer":
                return self.offer()
            if step == "wrap":
                return self._keys.wrap(question["bundles"], int(question["epoch"]))
            if step == "install":
                self._keys.install(question["bundles"], question["wrapped"])
                return {}
            if step == "agree":
                return self._masking.agree(Attempt.of(question["attempt"]), question["survivors"])
            if step == "reveal":
                return self._masking.reveal(Attempt.of(question["attempt"]), question)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WireError("the coordinator's question can't be read", where=self._where) from None
        raise WireError(f"there is no step '{step[:20]}'", where=self._where)

    def offer(self) -> dict[str, Any]:
        """The site's public keys, signed by itself."""
        return self._keys.offer()

    def share_noise(self, update: wire.FloatVector, attempt: Attempt, pay: Callable[[], object]) -> str:
        """Make a round's whole numbers with this site's share of the noise; returns their digest.

        `pay` charges the ledger before noise is drawn.

        Raises
        ------
        PrivacyError, QuorumError : as `noisy_integers`.
        """
        folder = self._folder / UPDATES
        return digest_of(noisy_integers(self._config, update, attempt, folder, self.name, pay))

    def require_clean(self, attempt: Attempt, refusals: str) -> None:
        """See `Suspicion.require_clean`."""
        self._suspicion.require_clean(attempt, refusals)

    def protect(self, update: wire.FloatVector, attempt: Attempt, users: float = 1.0) -> bytes:
        """Apply all steps of the protection to an update; returns the container to send."""
        return self._sent(attempt, Parcel(update, users))

    def protect_packed(self, values: Values, attempt: Attempt) -> bytes:
        """Apply only the steps that need secrets, to values that are packed already."""
        return self._sent(attempt, Parcel(values), packed=True)

    def vector(self, round_: int) -> wire.FloatVector:
        """The model after a round; see `OwnModel.vector`."""
        return self._model.vector(round_)

    def he_key(self, epoch: int) -> Key:
        """The league's encryption key in an epoch."""
        return self._keys.he_key(epoch)

    def apply_order(self, plan: dict[str, Any], data: bytes) -> dict[str, Any]:
        """Read an order from a message's scalars and bytes, and `apply` it."""
        return self.apply(SumOrder.of(plan, data, where=self._where))

    def apply(self, order: SumOrder) -> dict[str, Any]:
        """Decrypt → unpack → weigh → check a round's sums, then apply their mean; a repeated order changes nothing.

        Raises
        ------
        WireError : the sums are not of the contract's groups, can't be decrypted, or fail the checks.
        """
        newest = self._model.latest()
        applied = newest.round if newest else 0
        if applied < order.round - 1:
            return {"round": applied, "digest": ""}
        refused: list[int] = []
        if order.undo:
            vector = self._model.undo(order.round, order.best)
        elif applied == order.round - 1:
            mean, refused = self._mean(order)
            vector = self._model.step(newest, mean, order.best)
        else:
            vector = self._model.vector(order.round)
        secret = self._keys.secret(order.epoch)
        digest = hmac.new(secret, bytes.fromhex(wire.vector_digest(vector)), "sha256").hexdigest()
        return {
            "round": max(applied, order.round),
            "digest": digest,
            **self._suspicion.signed(order, refused),
        }

    def trial_order(self, plan: dict[str, Any], data: bytes) -> dict[str, Any]:
        """How well the model would serve this site with all groups' sums, then without each group in turn.

        A figure is None where no sum is left. The site's own model doesn't change.
        """
        order, metric = SumOrder.of(plan, data, where=self._where), str(plan.get("metric", ""))
        newest = self._model.latest()
        if (newest.round if newest else 0) != order.round - 1 or not isinstance(self._trainer, wire.Measurer):
            return {"figures": []}
        means, refused, _ = self._means(order)
        figures: list[float | None] = []
        for left_out in (None, *range(len(order.sums))):
            counted = [mean for place, mean in means.items() if place != left_out]
            if left_out is not None and left_out not in means:
                counted = []
            candidate = self._model.candidate(newest, middle(counted))[0] if counted else None
            figures.append(None if candidate is None else self._trainer.measure(candidate).get(metric))
        return {"figures": figures, **self._suspicion.signed(order, refused)}

    def released(self, round_: int) -> wire.FloatVector:
        """The model after a round, for a coordinator that the contract allows to have it.

        Raises
        ------
        WireError : the contract leaves the release to the sites.
        """
        if self._config.rounds.release != "coordinator":
            raise WireError("the contract leaves the release to the sites", where=self._where)
        return self.vector(round_)

    def keep_release(self, question: dict[str, Any], folder: Path) -> dict[str, Any]:
        """Write the site's own copy of the release."""
        try:
            round_, facts = int(question["round"]), dict(question["facts"])
        except (KeyError, TypeError, ValueError):
            raise WireError("the coordinator's question can't be read", where=self._where) from None
        write_files(folder, self._config, self._trainer.layout(), self.vector(round_), facts)
        return {"round": round_}

    def pass_model(self, peer: str) -> bytes:
        """The newest model, encrypted to a member that has no key for the earlier sums."""
        return self._model.encrypted_to(peer, self._keys)

    def take_model(self, data: bytes, sender: str) -> dict[str, Any]:
        """Take over another member's model; a site that has a model already keeps its own."""
        return {"round": self._model.taken(data, sender, self._keys)}

    def _sent(self, attempt: Attempt, parcel: Parcel, *, packed: bool = False) -> bytes:
        steps = self._steps(attempt)
        open_ = [step for step in steps if isinstance(step, tuple(OPEN_STEPS.values()))]
        values = parcel.values if packed else send(open_, parcel)
        self._keys.use_epoch(attempt)
        self._masking.use(attempt, values)
        container: bytes = send([step for step in steps if step not in open_], parcel)
        return container

    def _steps(self, attempt: Attempt) -> list[Step]:
        where = wire.place(self.name, attempt.round)
        config = self._config
        terms = Terms(config.rounds, self._trainer.layout(), attempt, self.name, config.seed, where)
        return site_steps(terms, config, self._folder, self._keys, self._masking)

    def _mean(self, order: SumOrder) -> tuple[wire.FloatVector, list[int]]:
        """The round's mean update (the median if there are several groups), and the groups that failed a check."""
        means, refused, reason = self._means(order)
        if not means:
            raise WireError(f"{REFUSED}: {reason}", where=self._where)
        return middle(list(means.values())), refused

    def _means(self, order: SumOrder) -> tuple[dict[int, wire.FloatVector], list[int], str]:
        """The groups' means by place, the places that a check refused, and the reason of the last refusal."""
        self._suspicion.require_groups(order)
        means: dict[int, wire.FloatVector] = {}
        refused, reason = [], "there is none"
        for place, group_sum in enumerate(order.sums):
            if not group_sum.survivors or place in order.without:
                continue  # too few sites in the group, or most sites' figures would be worse with it
            try:
                means[place] = self._opened(order.round, group_sum)
            except WireError as fault:
                refused.append(place)
                reason = fault.what
        return means, refused, reason

    def _opened(self, round_: int, group_sum: GroupSum) -> wire.FloatVector:
        return open_sum(
            self._steps(group_sum.attempt), Parcel(list(group_sum.parts), survivors=group_sum.survivors)
        )


def middle(means: Sequence[wire.FloatVector]) -> wire.FloatVector:
    """The one mean, or the median of several, number by number."""
    if len(means) == 1:
        return means[0]
    return np.median(np.stack(means), axis=0).astype(np.float32)
