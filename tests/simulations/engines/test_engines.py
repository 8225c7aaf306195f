"""The grids: equal bytes, no shared objects, bounded memory, dead workers."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from hypothesis import given
from hypothesis import strategies as st

from common.errors import WireError
from common.files import read_lines
from common.protocol import wire
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.engines.engine import Engine, run_league
from simulations.engines.frames import pack_frame, unpack_frame
from simulations.engines.local import LocalGrid
from simulations.engines.pool import PoolGrid, share_out

NOOP = {"job": "noop", "noop-size": 3000, "progress": "silent", "compare": True}


def _league(root: Path, engine: Engine) -> RunFolder:
    folder = RunFolder(root / engine)
    sites = [SiteEntry(f"s{i}", f"S{i}", "nowhere", held_out=i == 5) for i in range(6)]
    config = load_config(
        {"seed": 3, "rounds": {"count": 4, "fraction": 0.7, "optimiser": "adam", "protection": "plain"}}
    )
    folder.create(config, sites)
    run_league(folder.root, engine, 2, dict(NOOP))
    return folder


def _stable(folder: RunFolder) -> list[dict[str, object]]:
    return [
        {key: value for key, value in line.items() if key != "seconds"}
        for line in read_lines(folder.rounds_file)
    ]


def test_the_pool_gives_the_bytes_of_the_in_process_grid(tmp_path: Path) -> None:
    local, pool = _league(tmp_path, "local"), _league(tmp_path, "pool")
    for name in ("release/model.safetensors", "state/round-0004.safetensors", "state/round-0004.json"):
        assert (local.root / name).read_bytes() == (pool.root / name).read_bytes()
    assert _stable(local) == _stable(pool)
    for site in ("s0", "s5"):
        assert (local.site_out(site) / "final.json").read_bytes() == (
            pool.site_out(site) / "final.json"
        ).read_bytes()
    assert (local.site_out("s5") / "local.json").exists()  # left out of training, yet it weighs joining


@pytest.mark.slow
def test_flowers_own_engine_agrees(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    local, ray = _league(tmp_path, "local"), _league(tmp_path, "ray")
    one, other = (load_file(folder.release / "model.safetensors") for folder in (local, ray))
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_allclose(one[name], other[name], rtol=0, atol=1e-6)


def test_sites_in_one_process_share_no_object() -> None:
    seen: list[RecordDict] = []

    def greedy(message: Message, context: Context) -> Message:
        seen.append(message.content)
        message.content.config_records["c"]["list"].append(99)  # type: ignore[union-attr]
        return Message(message.content, reply_to=message)

    content = RecordDict({"c": ConfigRecord({"list": [1]})})
    grid = LocalGrid(greedy, 2, {})
    messages = [Message(content, dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
    replies = list(grid.send_and_receive(messages))
    assert content.config_records["c"]["list"] == [1]
    assert [reply.content.config_records["c"]["list"] for reply in replies] == [[1, 99], [1, 99]]
    assert all(reply.content is not kept for reply, kept in zip(replies, seen, strict=True))


def test_a_message_is_worked_on_only_when_pulled() -> None:
    worked: list[int] = []

    def app(message: Message, context: Context) -> Message:
        worked.append(int(context.node_config["partition-id"]))
        return Message(RecordDict(), reply_to=message)

    grid = LocalGrid(app, 3, {})
    messages = [Message(RecordDict(), dst_node_id=node, message_type="train") for node in grid.get_node_ids()]
    ids = list(grid.push_messages(messages))
    assert worked == []
    assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(ids)] == ids[:1]
    assert worked == [0]


def test_a_dead_worker_costs_its_message_and_is_replaced(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    config = load_config({"rounds": {"protection": "plain"}})
    folder.create(config, [SiteEntry("a", "A", "x"), SiteEntry("b", "B", "x")])
    run_config = {"run-dir": str(tmp_path), "job": "noop", "noop-size": 10, "noop-pause-s": 0.5}
    layout = wire.Layout.of({"first": (5,), "second": (5,)}).digest
    order = wire.pack(wire.Header(config.digest(), 1, layout=layout), vector=np.zeros(10, dtype=np.float32))
    with PoolGrid(2, run_config, workers=1) as grid:
        messages = [Message(order, dst_node_id=node, message_type=wire.TRAIN) for node in grid.get_node_ids()]
        ids = list(grid.push_messages(messages))
        while not grid._workers[0].given:
            assert list(grid.pull_messages(ids)) == []
        os.kill(grid._workers[0].pid, signal.SIGKILL)
        replies: dict[str, Message] = {}
        while len(replies) < 2:
            for reply in grid.pull_messages([id_ for id_ in ids if id_ not in replies]):
                replies[reply.metadata.reply_to_message_id] = reply
    assert replies[ids[0]].has_error()
    assert "process ended" in str(replies[ids[0]].error.reason)
    assert wire.read_header(replies[ids[1]].content, where="t").site == "b"


def test_an_idle_worker_takes_over_a_site_that_none_has_opened(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    config = load_config({"rounds": {"protection": "plain"}})
    folder.create(config, [SiteEntry(name, name, "x") for name in "abcde"])
    run_config = {"run-dir": str(tmp_path), "job": "noop", "noop-size": 10, "noop-pause-s": 0.3}
    layout = wire.Layout.of({"first": (5,), "second": (5,)}).digest
    order = wire.pack(wire.Header(config.digest(), 1, layout=layout), vector=np.zeros(10, dtype=np.float32))
    with PoolGrid(5, run_config, workers=2, sizes=[9, 1, 1, 1, 1]) as grid:
        assert grid._home == [0, 1, 1, 1, 1]
        homes = []
        for _ in range(2):
            messages = [
                Message(order, dst_node_id=node, message_type=wire.TRAIN) for node in grid.get_node_ids()
            ]
            replies = list(grid.send_and_receive(messages))
            assert [reply.has_error() for reply in replies] == [False] * 5
            homes.append(list(grid._home))
    assert homes[0][4] == 0, "the guess was wrong: the last of four goes to the worker that had one"
    assert homes[1] == homes[0], "opened sites stay, so that their caches are warm"


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30), st.integers(1, 6))
def test_sites_are_shared_out_within_the_largest_of_even(sizes: list[float], workers: int) -> None:
    home = share_out(sizes, workers)
    loads = [
        sum(size for size, at in zip(sizes, home, strict=True) if at == worker) for worker in range(workers)
    ]
    assert max(loads) <= sum(sizes) / workers + max(sizes) + 1e-9


@given(st.binary(max_size=40), st.dictionaries(st.text(min_size=1), st.integers(-5, 5), max_size=3))
def test_frames_keep_records_and_refuse_damage(data: bytes, values: dict[str, int]) -> None:
    content = wire.pack(wire.Header("r", 2, "a"), vector=np.frombuffer(data, dtype=np.uint8), metrics=values)
    frame = pack_frame({"id": "m1"}, content)
    facts, found = unpack_frame(frame)
    assert facts == {"id": "m1"}
    assert found == content
    for broken in (frame[:-1], frame + b"x", frame[:3], b""):
        with pytest.raises(WireError, match="damaged"):
            unpack_frame(broken)


def test_lent_bytes_stay_out_of_the_frame() -> None:
    content = wire.pack(wire.Header("r"), vector=np.arange(100, dtype=np.float32))
    data = content.array_records[wire.VECTOR][wire.VECTOR].data
    frame = pack_frame({}, content, lent=frozenset([wire.VECTOR]))
    assert len(frame) < len(data) + 300
    assert data not in frame
    assert unpack_frame(frame, lent=data)[1] == content
    with pytest.raises(WireError, match="damaged"):
        unpack_frame(frame, lent=data[:-1])
