"""What nobody waits for any more leaves the SuperLink's memory, and nothing else does; on Flower's own state."""

from __future__ import annotations

import time
from types import SimpleNamespace

from flwr.app import Message, RecordDict
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.superlink.config_loader import get_federation_manager

from flwr.server.superlink.linkstate import LinkStateFactory  # isort: skip
from common.flower.linkstate import drop_expired
from common.flower.simulation import become


def _state() -> SimpleNamespace:
    store = ObjectStoreFactory(":flwr-in-memory:")
    return LinkStateFactory(":flwr-in-memory:", get_federation_manager(), store).state()  # type: ignore[return-value]


def _part(name: str) -> str:
    return name[:32] + "0" * 32


def _put(state: SimpleNamespace, name: str, created: float, ttl: float, answer: str = "") -> None:
    message = Message(RecordDict(), dst_node_id=7, message_type="train", ttl=ttl)
    message.metadata.created_at = created
    state.message_ins_store[name] = message
    state.object_store.preregister(
        1, ObjectTree(object_id=name, children=[ObjectTree(object_id=_part(name))])
    )
    if answer:
        state.message_res_store[answer] = message
        state.message_ins_id_to_message_res_id[name] = answer
        state.object_store.preregister(1, ObjectTree(object_id=answer))


def test_only_what_has_run_out_is_dropped() -> None:
    become(1)
    state, now = _state(), time.time()
    names = {kind: char * 64 for kind, char in zip(("old", "late", "answer", "fresh"), "abcd", strict=True)}
    _put(state, names["old"], now - 1000, 100)
    _put(state, names["late"], now - 1000, 100, answer=names["answer"])
    _put(state, names["fresh"], now - 1000, 3600)
    assert drop_expired(state, now) == 2
    assert set(state.message_ins_store) == {names["fresh"]}
    assert state.message_res_store == {}
    assert state.message_ins_id_to_message_res_id == {}
    held = {kind for kind, name in names.items() if state.object_store.get(name) is not None}
    assert held == {"fresh"}
    assert state.object_store.get(_part(names["old"])) is None
    assert state.object_store.get(_part(names["fresh"])) is not None
    assert drop_expired(state, now) == 0


def test_a_message_in_its_last_minute_stays() -> None:
    become(1)
    state, now = _state(), time.time()
    _put(state, "e" * 64, now - 100, 90)
    assert drop_expired(state, now) == 0
    assert drop_expired(state, now + 60) == 1
