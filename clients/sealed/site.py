"""A site's half of `masked`, `he` and `he+masked`, as its messages tell it: protect an update, apply a sum.

Invariants: a mask is used for one upload only; a site signs one survivor set a round; under `he` and `he+masked` the
model, the optimiser and the league's key lie at the site alone and move on by sums in order. `keys`, `masking` and
`model` keep one each.
"""

from __future__ import annotations

import hmac
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from clients.sealed.keys import SiteKeys
from clients.sealed.masking import Masking
from clients.sealed.model import OwnModel
from clients.sealed.shared_noise import noisy_integers
from common import wire
from common.config import LeagueConfig
from common.crypto import he
from common.crypto.container import seal_container
from common.crypto.fields import Words, dequantise, quantise
from common.crypto.protocol import (
    REFUSED,
    Attempt,
    GroupSum,
    bounded,
    epoch_of,
    groups_of,
    norm_bound,
    upload_facts,
)
from common.errors import WireError
from common.privacy.shared_noise import enough_noise
from common.provision.pinned import Pinned


class SealedSite:
    """Keys and private state of one site under one run.

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
        self._keys = SiteKeys(folder, name, self._run, pinned)
        self._masking = Masking(folder, name, config, self._keys)
        self._model = OwnModel(folder / "model", name, config, trainer)

    def answer(self, step: str, asked: dict[str, Any]) -> dict[str, Any]:
        """One step of the protocol between rounds.

        Raises
        ------
        WireError : the coordinator asks for what the contract doesn't allow.
        """
        try:
            if step == "offer":
                return self.offer()
            if step == "wrap":
                return self._keys.wrap(asked["bundles"], int(asked["epoch"]))
            if step == "install":
                self._keys.install(asked["bundles"], asked["wrapped"])
                return {}
            if step == "agree":
                return self._masking.agree(Attempt.of(asked["attempt"]), asked["survivors"])
            if step == "reveal":
                return self._masking.reveal(Attempt.of(asked["attempt"]), asked)
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WireError("the coordinator's question can't be read", where=self._where) from None
        raise WireError(f"there is no step '{step[:20]}'", where=self._where)

    def offer(self) -> dict[str, Any]:
        """The site's public keys, signed by itself."""
        return self._keys.offer()

    def protect(self, update: wire.FloatVector, attempt: Attempt) -> bytes:
        """clip → weight → quantise → + noise where sites share it → pack → mask → encrypt → container → sign."""
        rounds = self._config.rounds
        if self._config.privacy.mode == "distributed":
            whole = noisy_integers(self._config, update, attempt, self._folder / "updates", self.name)
        else:
            share, scale = attempt.share([self.name]), attempt.scale(rounds)
            whole = quantise(bounded(update, rounds), share, rounds.clip_range, scale)
        return self.seal(attempt.packing(rounds).pack(whole), attempt)

    def seal(self, words: Words, attempt: Attempt) -> bytes:
        """The second half of `protect`: mask → encrypt → container → sign."""
        rounds, layout = self._config.rounds, self._trainer.layout()
        self._masking.use(attempt, words)
        shares: list[bytes] = []
        if "masked" in rounds.protection:
            words, shares = self._masking.mask(words, attempt)
        parts = [words.astype("<u8").tobytes()]
        if "he" in rounds.protection:
            parts = self.he_key(epoch_of(rounds, attempt.round)).encrypt(words)
        facts = upload_facts(self._run, rounds, layout, attempt, self.name)
        return seal_container(facts, [*parts, *shares], self._keys.sign)

    def vector(self, round_: int) -> wire.FloatVector:
        """The model after a round; see `OwnModel.vector`."""
        return self._model.vector(round_)

    def he_key(self, epoch: int) -> he.Key:
        """The league's key of an epoch."""
        return self._keys.he_key(epoch)

    def apply_order(self, plan: Mapping[str, Any], data: bytes) -> dict[str, Any]:
        """`apply`, from a message's scalars and bytes."""
        try:
            round_, best = int(plan["round"]), int(plan["best"])
            sums, start = [], 0
            for entry in json.loads(str(plan["sums"])):
                ends = np.cumsum([start, *(int(n) for n in entry["lengths"])]).tolist()
                parts = [data[a:b] for a, b in itertools.pairwise(ends)]
                survivors = [str(name) for name in entry["survivors"]]
                sums.append(GroupSum(Attempt.of(entry["attempt"]), survivors, parts))
                start = ends[-1]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise WireError("the coordinator's sum can't be read", where=self._where) from None
        if start != len(data):
            raise WireError("the sum's lengths don't add up", where=self._where)
        return self.apply(round_, sums, None if best < 0 else best, undo=bool(plan.get("undo")))

    def apply(
        self, round_: int, sums: list[GroupSum], best: int | None, *, undo: bool = False
    ) -> dict[str, Any]:
        """verify → decrypt → unpack → check → apply; a sum applied before changes nothing.

        Parameters
        ----------
        undo : take the round back, or pass over it, in place of applying its sums.

        Raises
        ------
        WireError : the sums are not of the contract's groups, can't be decrypted, or fail the checks.
        """
        newest = self._model.latest()
        done = newest.round if newest else 0
        if done < round_ - 1:
            return {"round": done, "digest": ""}
        refused: list[int] = []
        if undo:
            vector = self._model.undo(round_, best)
        elif done == round_ - 1:
            mean, refused = self._mean(round_, sums)
            vector = self._model.step(newest, mean, best)
        else:
            vector = self._model.vector(round_)
        secret = self._keys.secret(epoch_of(self._config.rounds, round_))
        digest = hmac.new(secret, bytes.fromhex(wire.vector_digest(vector)), "sha256").hexdigest()
        return {"round": max(done, round_), "digest": digest, "refused": refused}

    def _mean(self, round_: int, sums: list[GroupSum]) -> tuple[wire.FloatVector, list[int]]:
        """The round's mean update: of one sum itself, of several groups the median; and groups that failed a check."""
        self._require_groups(round_, sums)
        means: list[wire.FloatVector] = []
        refused, reason = [], "there is none"
        for place, one in enumerate(sums):
            if not one.survivors:
                continue  # a group of too few
            try:
                means.append(self._opened(round_, one))
            except WireError as fault:
                refused.append(place)
                reason = fault.what
        if not means:
            raise WireError(f"{REFUSED}: {reason}", where=self._where)
        if len(means) == 1:
            return means[0], refused
        return np.median(np.stack(means), axis=0).astype(np.float32), refused

    def _require_groups(self, round_: int, sums: list[GroupSum]) -> None:
        cohort = [name for one in sums for name in one.attempt.names]
        drawn = groups_of(self._config.rounds, self._config.seed, round_, cohort)
        if [one.attempt.names for one in sums] != drawn or any(one.attempt.round != round_ for one in sums):
            raise WireError("the sums are not of this round's groups", where=self._where)
        for one in sums:
            if "masked" in self._config.rounds.protection and self.name in one.attempt.weights:
                self._masking.require_signed(one.attempt, one.survivors)

    def _opened(self, round_: int, one: GroupSum) -> wire.FloatVector:
        rounds, layout, where = self._config.rounds, self._trainer.layout(), wire.place(self.name, round_)
        if not enough_noise(self._config, len(one.survivors)):
            raise WireError("the sum holds too little noise", where=where)
        packing, scale = one.attempt.packing(rounds), one.attempt.scale(rounds)
        words = self.he_key(epoch_of(rounds, round_)).decrypt(
            one.parts, packing.words(layout.size), where=where
        )
        mean = dequantise(packing.unpack(words, layout.size), one.attempt.share(one.survivors), scale)
        self._check(mean, layout, where)
        return mean

    def _check(self, mean: wire.FloatVector, layout: wire.Layout, where: str) -> None:
        wire.check_finite(mean, where=where)
        bound = norm_bound(self._config.rounds, mean.size) * 1.001
        for name, part in layout.unflatten(mean).items():
            if float(np.abs(part).max(initial=0.0)) > self._config.rounds.clip_range * 1.001:
                raise WireError(f"the sum moves '{name}' by more than the contract allows", where=where)
        if float(np.sqrt(np.vdot(mean, mean))) > bound:
            raise WireError("the sum's norm is above what the contract allows", where=where)
