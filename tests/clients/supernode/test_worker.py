"""What a site's worker does with a message before its app sees it."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Context, Message, RecordDict

from clients.supernode import worker
from clients.supernode.membership import PAUSED
from common.errors import WireError
from common.flower.simulation import become
from common.provision.code import code_digest, installed_code
from common.provision.contract import Contract
from common.settings.load import load_config


def _bundle(code: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, data in code.items():
            archive.writestr(name, data)
    return made.getvalue()


@pytest.fixture
def kit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A kit of this code; the app behind the worker only notes that it was asked."""
    become(1)
    contract = Contract(load_config({}), code_digest(installed_code()), ())
    asked: list[str] = []

    def app(message: Message, context: Context) -> Message:
        asked.append(message.metadata.message_type)
        assert context.run_config == {}
        return Message(RecordDict(), reply_to=message)

    monkeypatch.setattr(worker, "app", app)
    (tmp_path / "private").mkdir()
    return SimpleNamespace(
        contract=lambda: contract, private=tmp_path / "private", logs=tmp_path / "logs", asked=asked
    )


def _ask(kit: Any, kind: str, bundle: bytes) -> Message:
    message = Message(RecordDict(), dst_node_id=7, message_type=kind, group_id="3")
    context = Context(1, 7, {}, RecordDict(), {"config-json": "/of/the/coordinator", "job": "noop"})
    return worker.answer(kit, message, context, bundle)


def test_the_contracts_code_is_answered_by_the_installed_one(kit: Any) -> None:
    reply = _ask(kit, "train", _bundle(installed_code()))
    assert not reply.has_error()
    assert kit.asked == ["train"]
    told = json.loads((kit.logs / "answered.json").read_text())
    assert (told["asked"], told["group"], told["outcome"]) == ("train", "3", "answered")


@pytest.mark.parametrize("change", ["changed", "added", "missing", "none"])
def test_other_code_is_refused_before_anything_else(kit: Any, change: str) -> None:
    code = installed_code()
    bundle = {
        "changed": _bundle({**code, "clients/app.py": code["clients/app.py"] + b"# spy\n"}),
        "added": _bundle({**code, "clients/spy.py": b""}),
        "missing": _bundle({name: data for name, data in code.items() if name != "clients/app.py"}),
        "none": b"not a bundle",
    }[change]
    reply = _ask(kit, "query.hello", bundle)
    assert reply.has_error()
    assert reply.error.code == 1004
    assert "bundle" in str(reply.error.reason)
    assert kit.asked == []


def test_a_paused_site_trains_in_no_further_round_and_finishes_the_one_under_way(kit: Any) -> None:
    (kit.private / PAUSED).touch()
    bundle = _bundle(installed_code())
    reply = _ask(kit, "train", bundle)
    assert reply.has_error()
    assert "pauses" in str(reply.error.reason)
    assert not _ask(kit, "query.secure", bundle).has_error()
    (kit.private / PAUSED).unlink()
    assert not _ask(kit, "train", bundle).has_error()


def test_the_digest_is_over_names_and_bytes(kit: Any) -> None:
    worker.require_bundle(_bundle(installed_code()), kit.contract())
    with pytest.raises(WireError, match="contract"):
        worker.require_bundle(_bundle({}), kit.contract())
