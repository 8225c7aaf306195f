"""Sites that say nothing at all: each round with a quorum is over by its deadline, with the exact sum of the others."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any, ClassVar

import pytest
from flwr.app import RecordDict

from common.errors import QuorumError
from common.files import read_lines
from common.protocol import wire
from server.run.deadline import RoundClock
from simulations.engines.base import Task
from simulations.engines.local import LocalGrid
from tests.faults.leagues import SITES, make_keys, make_league, model_of, run_league


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"))


def _silent(sites: int, gone: int, rounds: int, seed: int) -> type[LocalGrid]:
    """A grid in which some sites of each round never answer, from one step of it on; they're back in the next."""
    steps, chance = ("train", "agree", "reveal", "apply"), random.Random(seed)
    silent = {
        (round_, place): chance.randrange(len(steps))
        for round_ in range(1, rounds + 1)
        for place in chance.sample(range(sites), gone)
    }

    class Silent(LocalGrid):
        _round = 0
        _missed: ClassVar[set[tuple[int, int]]] = set()

        def _queue(self, task: Task, content: RecordDict) -> None:
            header = wire.read_header(content, where="test")
            step = "train" if task.message_type == wire.TRAIN else str(header.plan.get("step", ""))
            if step == "train":
                self._round = header.round
            here = (self._round, task.place)
            start = silent.get(here)
            if start is None or step not in steps or steps.index(step) < start or here in self._missed:
                super()._queue(task, content)
            elif step == "apply":
                self._missed.add(here)  # it's back before the next round

    return Silent


def _weights(lines: list[dict[str, Any]]) -> list[set[str]]:
    return [set(line["weights"]) for line in lines]


@pytest.mark.parametrize(
    ("sites", "gone", "rounds", "deadline_s"),
    [(5, 1, 2, 5.0), pytest.param(10, 3, 20, 8.0, marks=pytest.mark.slow)],
)
def test_rounds_with_a_quorum_are_over_by_their_deadline_with_the_exact_sum_of_the_survivors(
    sites: int, gone: int, rounds: int, deadline_s: float, keys: Path, tmp_path: Path
) -> None:
    settings = {"count": rounds, "deadline_s": deadline_s}
    run = make_league(tmp_path / "a", keys, sites, protection="he+masked", **settings)
    run_league(run, grid=_silent(sites, gone, rounds, seed=10))
    lines = read_lines(run.rounds_file)
    assert len(lines) == rounds
    assert max(line["seconds"] for line in lines) < 1.05 * deadline_s
    survivors = _weights(lines)
    assert min(map(len, survivors)) < sites
    # The same sites' updates summed in clear give the same model to the last bit.
    plain = make_league(tmp_path / "plain", keys, sites, protection="plain", **settings)
    alive: dict[int, set[str]] = dict(enumerate(survivors, 1))

    class Alike(LocalGrid):
        def _queue(self, task: Task, content: RecordDict) -> None:
            header = wire.read_header(content, where="test")
            if task.message_type != wire.TRAIN or SITES[task.place] in alive[header.round]:
                super()._queue(task, content)

    run_league(plain, grid=Alike)
    assert _weights(read_lines(plain.rounds_file)) == survivors
    assert model_of(plain.release) == model_of(run.release)


def test_without_a_quorum_the_round_ends_by_its_deadline_too(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 4, protection="he+masked", count=1, deadline_s=1.0)
    with pytest.raises(QuorumError):
        run_league(run, grid=_silent(4, 3, 1, seed=1))


def test_the_steps_of_a_round_share_its_time(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 4, protection="he+masked", count=1, deadline_s=100.0)
    clock = RoundClock(run.config().rounds)
    ends = [clock.left(step) for step in ("keys", "train", "agree", "reveal", "trial", "apply", "guard")]
    assert ends == sorted(ends)
    assert ends[-1] <= 100.0
    plain = make_league(tmp_path / "b", keys, 4, protection="plain", deadline_s=100.0)
    assert RoundClock(plain.config().rounds).left("train") == pytest.approx(100.0, abs=0.5)
