"""A site's own copy of the shared model under `he` and `he+masked`, moved on by sums in order.

Invariant: the state after a round depends on the state before it and on the round's sum only, so all sites that apply
the same sums hold the same model, bit for bit; a sum that was applied before changes nothing.
"""

from __future__ import annotations

from pathlib import Path

from common import checkpoint, wire
from common.config import LeagueConfig
from common.errors import RunError, WireError
from common.optimisers import optimiser_for

_UNDONE = "undone"


class OwnModel:
    """The model and the optimiser's vectors, as checkpoints in the site's private folder."""

    def __init__(self, folder: Path, name: str, config: LeagueConfig, trainer: wire.Trainer) -> None:
        self._folder, self._config, self._trainer = folder, config, trainer
        self._run, self._where = config.digest(), f"site '{name}'"

    def latest(self) -> checkpoint.Checkpoint | None:
        """The newest whole checkpoint."""
        return checkpoint.load_latest(self._folder, config=self._run)[0]

    def vector(self, round_: int) -> wire.FloatVector:
        """The model after a round; the first one is drawn from the contract's seed.

        Raises
        ------
        WireError : the site stands elsewhere; the coordinator then sends the missing sums.
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
        """Apply a round's mean to the state before it; the new model."""
        optimiser = optimiser_for(self._config.rounds, mean.size)
        if before is not None:
            optimiser.restore({name: t for name, t in before.tensors.items() if name != "vector"})
        held = self._trainer.initial() if before is None else before.tensors["vector"]
        vector = optimiser.step(held, mean)
        round_ = 1 if before is None else before.round + 1
        self._save(round_, {"vector": vector, **optimiser.state()}, best, undone=False)
        return vector

    def undo(self, round_: int, best: int | None) -> wire.FloatVector:
        """Stand after `round_` where the site stood before it, be its sum applied or not.

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
