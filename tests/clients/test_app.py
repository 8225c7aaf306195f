"""A site's app: what it answers, and what it never tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, Message, RecordDict

from clients.app import app, redact
from common.errors import HansaError, InputError, WireError
from common.protocol import wire
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.engines.local import LocalGrid

CONFIG = load_config({"rounds": {"protection": "plain"}})


def _ask(folder: Path, content: RecordDict, kind: str, **run_config: str | int) -> Message:
    run = RunFolder(folder)
    run.create(CONFIG, [SiteEntry("amber", "Amber", str(folder / "secret-folder"))])
    grid = LocalGrid(app, 1, {"run-dir": str(folder), "job": "noop", "noop-size": 10, **run_config})
    [node] = grid.get_node_ids()
    [reply] = grid.send_and_receive([Message(content, dst_node_id=node, message_type=kind)])
    return reply


def test_prepare_states_a_bounded_bucket_and_no_count(tmp_path: Path) -> None:
    reply = _ask(tmp_path, wire.pack(wire.Header(CONFIG.digest(), plan={"initial": False})), wire.PREPARE)
    header = wire.read_header(reply.content, where="t")
    assert set(header.plan) == {"bucket", "initial"}
    assert 0 <= int(header.plan["bucket"]) <= 40
    assert wire.VECTOR not in reply.content
    assert wire.read_metrics(reply.content) == {}


def test_the_first_model_comes_when_asked_for(tmp_path: Path) -> None:
    reply = _ask(tmp_path, wire.pack(wire.Header(CONFIG.digest(), plan={"initial": True})), wire.PREPARE)
    header = wire.read_header(reply.content, where="t")
    layout = wire.Layout.from_json(str(header.plan["layout"]))
    vector = wire.decode_floats(reply.content, layout.size, where="t")
    assert wire.vector_digest(vector) == header.plan["initial"]


@pytest.mark.parametrize(
    ("header", "size", "fault"),
    [
        (wire.Header("other run", round=3), 10, "other settings"),
        (wire.Header(CONFIG.digest(), round=3, layout="other"), 10, "another layout"),
        (wire.Header(CONFIG.digest(), round=3, layout="LAYOUT"), 11, "not 10 numbers"),
        (wire.Header(CONFIG.digest(), round=3, layout="LAYOUT", protection="he"), 10, "another protection"),
    ],
)
def test_a_site_refuses_an_order_off_the_contract(
    header: wire.Header, size: int, fault: str, tmp_path: Path
) -> None:
    layout = wire.Layout.of({"first": (5,), "second": (5,)}).digest
    header = wire.Header(**{**vars(header), "layout": layout if header.layout == "LAYOUT" else header.layout})
    reply = _ask(tmp_path, wire.pack(header, vector=np.zeros(size, dtype=np.float32)), wire.TRAIN)
    assert reply.has_error()
    assert fault in str(reply.error.reason)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (InputError("price -3 of customer Ada", where="/home/ada/events.csv"), "InputError"),
        (WireError("the layout differs", where="/home/ada"), "WireError: the layout differs"),
        (ValueError("Ada bought 3"), "ValueError"),
        (KeyError("ada@example.org"), "KeyError"),
    ],
)
def test_an_error_reply_tells_the_kind_and_no_data(
    fault: Exception, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(message: Message, context: Context) -> Message:
        raise fault

    asked = Message(RecordDict(), dst_node_id=1, message_type=wire.TRAIN)
    reply = redact(asked, Context(1, 1, {}, RecordDict(), {}), failing)
    assert reply.error.reason == told
    assert reply.error.code == 1000 + (fault.exit_code if isinstance(fault, HansaError) else 0)
    assert "Ada" in caplog.text or "ada" in caplog.text  # the site's own log has the whole story


def test_a_node_without_a_site_says_so(tmp_path: Path) -> None:
    RunFolder(tmp_path).create(CONFIG, [SiteEntry("amber", "Amber", "x")])
    grid = LocalGrid(app, 2, {"run-dir": str(tmp_path), "job": "noop"})
    node = list(grid.get_node_ids())[1]
    content = wire.pack(wire.Header(CONFIG.digest()))
    [reply] = grid.send_and_receive([Message(content, dst_node_id=node, message_type=wire.HELLO)])
    assert reply.error.reason == "RunError"


def test_a_site_is_stateless_between_rounds(tmp_path: Path) -> None:
    layout = wire.Layout.of({"first": (5,), "second": (5,)}).digest
    order = wire.pack(
        wire.Header(CONFIG.digest(), round=3, layout=layout), vector=np.ones(10, dtype=np.float32)
    )
    one, other = (_ask(tmp_path, order, wire.TRAIN).content for _ in range(2))
    assert (
        one.array_records[wire.VECTOR][wire.VECTOR].data == other.array_records[wire.VECTOR][wire.VECTOR].data
    )
