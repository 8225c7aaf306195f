"""A site's own copy of the shared model under `he` and `he+masked`, to which it applies the rounds' sums in order.

Invariant: the state after a round depends only on the state before it and on the round's sum. So all sites that apply
the same sums hold the same model, bit for bit. Applying a sum twice changes nothing.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from clients.secagg.keys import SiteKeys
from common.canonical import canonical
from common.errors import RunError, WireError
from common.models.optimisers import optimiser_for
from common.protocol import wire
from common.settings.config import LeagueConfig
from common.storage import checkpoint

_UNDONE = "undone"


class OwnModel:
    """The model and the optimiser's vectors, as checkpoints in the site's private folder."""

    def __init__(self, folder: Path, name: str, config: LeagueConfig, trainer: wire.Trainer) -> None:
        self._folder, self._config, self._trainer = folder, config, trainer
        self._run, self._where = config.digest(), f"site '{name}'"

    def latest(self) -> checkpoint.Checkpoint | None:
        """The newest complete checkpoint."""
        return checkpoint.load_latest(self._folder, config=self._run)[0]

    def vector(self, round_: int) -> wire.FloatVector:
        """The model after a round; the first one is drawn from the contract's seed.

        Raises
        ------
        WireError : the site has no model of that round; the coordinator then sends the missing sums.
        """
        if round_ == 0:
            return self._trainer.initial()
        try:
            return checkpoint.load(self._folder, round_, config=self._run).tensors["vector"]
        except RunError:
            raise WireError(f"the site has no model after round {round_}", where=self._where) from None

    def step(
        self, before: checkpoint.Checkpoint | None, mean: wire.FloatVector, best: int | None
    ) -> wire.FloatVector:
        """Apply a round's mean to the state before it; returns the new model."""
        vector, tensors = self.candidate(before, mean)
        self._save(
            1 if before is None else before.round + 1, {"vector": vector, **tensors}, best, undone=False
        )
        return vector

    def candidate(
        self, before: checkpoint.Checkpoint | None, mean: wire.FloatVector
    ) -> tuple[wire.FloatVector, dict[str, wire.FloatVector]]:
        """The model and the optimiser's vectors that a mean would give; nothing is written."""
        optimiser = optimiser_for(self._config.rounds, mean.size)
        if before is not None:
            optimiser.restore({name: t for name, t in before.tensors.items() if name != "vector"})
        vector = self._trainer.initial() if before is None else before.tensors["vector"]
        return optimiser.step(vector, mean), optimiser.state()

    def encrypted_to(self, peer: str, keys: SiteKeys) -> bytes:
        """The newest checkpoint, encrypted for one member that can't open earlier sums.

        Raises
        ------
        WireError : there is no checkpoint yet, or the peer is no member.
        """
        newest = self.latest()
        if newest is None:
            raise WireError("the site has no model to pass on", where=self._where)
        state = canonical([newest.round, bool(newest.loop.get(_UNDONE))])
        body = save_tensors({"told": np.frombuffer(state, np.uint8), **newest.tensors})
        return keys.encrypt_to(peer, body, self._facts())

    def taken(self, data: bytes, sender: str, keys: SiteKeys) -> int:
        """Take over another member's checkpoint; returns the round after which the site stands then.

        Raises
        ------
        WireError : it isn't the sender's, isn't encrypted to this site, or doesn't fit the league's layout.
        """
        own = self.latest()
        if own is not None:
            return own.round
        try:
            tensors = load_tensors(keys.decrypt_from(sender, data, self._facts()))
            round_, undone = json.loads(tensors.pop("told").tobytes())
        except (ValueError, KeyError, TypeError, SafetensorError):
            raise WireError("the passed model can't be read", where=self._where) from None
        first = self._trainer.initial()
        expected = {"vector", *optimiser_for(self._config.rounds, first.size).state()}
        if set(tensors) != expected or any(
            t.shape != first.shape or t.dtype != np.float32 for t in tensors.values()
        ):
            raise WireError("the passed model has another form", where=self._where)
        for tensor in tensors.values():
            wire.check_finite(tensor, where=self._where)
        self._save(int(round_), tensors, None, undone=bool(undone))
        return int(round_)

    def _facts(self) -> dict[str, str | int]:
        layout = self._trainer.layout().digest
        return {"version": 1, "kind": "model", "run": self._run, "layout": layout}

    def undo(self, round_: int, best: int | None) -> wire.FloatVector:
        """Give the model after `round_` the state it had before that round, whether its sum was applied or not.

        Raises
        ------
        WireError : the site has no model of the round before.
        """
        newest = self.latest()
        if newest is not None and newest.round == round_ and newest.loop.get(_UNDONE):
            return newest.tensors["vector"]
        if round_ == 1:
            first = self._trainer.initial()
            tensors = {"vector": first, **optimiser_for(self._config.rounds, first.size).state()}
        else:
            try:
                tensors = checkpoint.load(self._folder, round_ - 1, config=self._run).tensors
            except RunError:
                raise WireError(
                    f"the site has no model after round {round_ - 1}", where=self._where
                ) from None
        self._save(round_, tensors, best, undone=True)
        return tensors["vector"]

    def _save(
        self, round_: int, tensors: dict[str, wire.FloatVector], best: int | None, *, undone: bool
    ) -> None:
        layout = self._trainer.layout().digest
        state = checkpoint.Checkpoint(round_, self._run, layout, tensors, {_UNDONE: undone})
        checkpoint.save(self._folder, state, best_round=best)
