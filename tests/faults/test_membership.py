"""Members that come late or leave: a new epoch with a new key each time, and one model at all of them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Error, Message

import server.rounds.roll_call
from clients.secagg.keys import SiteKeys
from common.errors import QuorumError, WireError
from common.files import read_json, read_lines, write_json
from common.protocol import wire
from common.secagg.protocol import Attempt
from common.settings.load import load_config
from simulations.engines.base import Task
from simulations.engines.local import LocalGrid
from tests.faults.leagues import SITES, SIZE, make_keys, make_league, run_league, secagg_sites


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), SITES[:5])


class Late(LocalGrid):
    """The last node connects when the others have trained twice."""

    _trained = 0

    def get_node_ids(self) -> Iterable[int]:
        found = list(super().get_node_ids())
        return found if self._trained >= 2 * (len(found) - 1) else found[:-1]

    def _queue(self, task: Task, content: Any) -> None:
        self._trained += task.message_type == "train"
        super()._queue(task, content)


def _models(run: Any, names: list[str], round_: int) -> set[bytes]:
    return {
        (run.site_out(name) / "private" / "model" / f"round-{round_:04d}.safetensors").read_bytes()
        for name in names
    }


@pytest.mark.parametrize("protection", ["he+masked", "masked", "plain"])
def test_a_member_that_comes_late_takes_part_from_then_on(
    protection: str, keys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.rounds.roll_call, "_ROLL_CALL_S", 0.2)
    run = make_league(tmp_path, keys, 5, protection=protection, count=4)
    run_league(run, grid=Late)
    lines = read_lines(run.rounds_file)
    assert [len(line["weights"]) for line in lines] == [4, 4, 5, 5]
    if protection != "he+masked":
        return
    assert len(_models(run, SITES[:5], 4)) == 1
    # A new epoch began with it: it has no key of the first, and what it started from was sealed to it alone.
    epochs = read_json(run.state / "keys.json")["epochs"]
    assert [(each["epoch"], each["first"], len(each["members"])) for each in epochs] == [(1, 1, 4), (2, 3, 5)]
    private = run.site_out("s4") / "private"
    assert sorted(path.name for path in private.glob("league-*.key")) == ["league-0002.key"]


def _stop_in_round_three(site: str, message: Message, context: Context) -> Message | None:
    stop = message.metadata.message_type == wire.TRAIN
    stop = stop and wire.read_header(message.content, where="test").round == 3
    return Message(Error(9, "gone"), reply_to=message) if stop else None


def test_a_member_that_left_has_no_key_for_what_follows(keys: Path, tmp_path: Path) -> None:
    run = make_league(tmp_path, keys, 5, protection="he+masked", count=4)
    with pytest.raises(QuorumError):
        run_league(run, _stop_in_round_three)
    write_json(run.league_file, [entry for entry in read_json(run.league_file) if entry["name"] != "s2"])
    run_league(run)
    left = ["s0", "s1", "s3", "s4"]
    assert [sorted(line["weights"]) for line in read_lines(run.rounds_file)] == [SITES[:5]] * 2 + [left] * 2
    kept = read_json(run.state / "keys.json")
    assert [(each["first"], each["members"]) for each in kept["epochs"]] == [(1, SITES[:5]), (3, left)]
    assert sorted(kept["wrapped"]["2"]["keys"]) == left
    private = run.site_out("s2") / "private"
    assert [path.name for path in private.glob("league-*.key")] == ["league-0001.key"]
    secrets = {(run.site_out(name) / "private" / "league-0002.key").read_bytes() for name in left}
    assert len(secrets) == 1
    assert secrets != {(private / "league-0001.key").read_bytes()}
    assert len(_models(run, left, 4)) == 1


def test_a_site_refuses_a_key_older_than_the_contract_allows_and_one_of_an_epoch_that_is_over(
    keys: Path, tmp_path: Path
) -> None:
    config = load_config({"rounds": {"protection": "he+masked", "rotate_every": 2}})
    ring = SiteKeys(tmp_path, "s0", config)

    def use(round_: int, epoch: int) -> None:
        ring.use_epoch(Attempt(round_, "aa", {"s0": 1.0}, epoch))

    use(1, 1)
    use(2, 1)
    with pytest.raises(WireError, match="older than the contract allows"):
        use(3, 1)
    use(3, 2)
    with pytest.raises(WireError, match="older than the contract allows"):
        use(4, 1)


def test_a_sealed_model_is_for_one_member_and_of_one_member(keys: Path, tmp_path: Path) -> None:
    sites = secagg_sites(tmp_path, keys, 3, protection="he+masked")
    mean = np.full(SIZE, 0.01, dtype=np.float32)
    sites[0]._model.step(None, mean, None)
    passed = sites[0].pass_model("s1")
    for data, sender, match in [
        (passed, "s2", "signature"),
        (passed[:-80] + bytes(16) + passed[-64:], "s0", "signature"),
        (sites[0].pass_model("s2"), "s0", "another to"),
    ]:
        with pytest.raises(WireError, match=match):
            sites[1].take_model(data, sender)
    assert sites[1].take_model(passed, "s0") == {"round": 1}
    assert sites[1].vector(1).tobytes() == sites[0].vector(1).tobytes()
    assert sites[1].take_model(b"", "s0") == {"round": 1}  # what it has of its own stays
    with pytest.raises(WireError, match="names no member"):
        sites[0].pass_model("s9")
    with pytest.raises(WireError, match="no model to pass on"):
        sites[2].pass_model("s1")
