"""What a run does right now, for whoever watches: whom it has asked, who has answered, and when.

Invariants: watching changes nothing: the messages pass as they are, and the file `state/live.json` is read by no round;
it's written when sites are asked, when all have answered, and a few times a second between; it may be lost.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from typing import Any

from flwr.app import Message
from flwr.serverapp import Grid

from common.storage.run_folder import RunFolder
from server.messages.resend import PassingGrid

FILE = "live.json"
_LEAST_S = 0.25


class WatchedGrid(PassingGrid):
    """A Grid that notes what passes through it."""

    def __init__(self, grid: Grid, folder: RunFolder) -> None:
        super().__init__(grid)
        self._folder = folder
        self._names: dict[int, str] = {}
        self._pending: dict[str, tuple[int, float]] = {}
        self._sites: dict[str, dict[str, Any]] = {}
        self._task: dict[str, Any] = {}
        self._written = 0.0

    def meet(self, nodes: Mapping[str, int]) -> None:
        """Learn which node is which site; all of them have just been heard of."""
        self._names = {node: name for name, node in nodes.items()}
        for name in nodes:
            self._sites.setdefault(name, {})["seen"] = time.time()
        self._write(always=True)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Send, and note whom."""
        sent = list(messages)
        ids = list(self._grid.push_messages(sent))
        now = time.time()
        for message, id_ in zip(sent, ids, strict=True):
            facts = message.metadata
            self._pending[id_] = (facts.dst_node_id, now)
            self._task = {
                "type": facts.message_type, "group": facts.group_id, "began": now, "deadline": now + facts.ttl,
            }  # fmt: skip
            self._site(facts.dst_node_id)["waiting"] = True
        self._write(always=True)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Take replies, and note whose and when."""
        now = time.time()
        for reply in self._grid.pull_messages(message_ids):
            node, asked = self._pending.pop(reply.metadata.reply_to_message_id, (0, now))
            site = self._site(node)
            site["waiting"] = False
            if not reply.has_error():
                site["seen"] = now
                if reply.metadata.message_type == "train":
                    site["took"] = round(now - asked, 3)
            yield reply
        self._write(always=not any(site.get("waiting") for site in self._sites.values()))

    def _site(self, node: int) -> dict[str, Any]:
        name = self._names.get(node)
        return {} if name is None else self._sites.setdefault(name, {})

    def _write(self, *, always: bool) -> None:
        now = time.monotonic()
        if not always and now - self._written < _LEAST_S:
            return
        self._written = now
        document = {"at": time.time(), "pid": os.getpid(), "task": self._task, "sites": self._sites}
        path = self._folder.state / FILE
        # Whoever watches may miss a beat; a run doesn't end because of it.
        with contextlib.suppress(OSError):
            temporary = path.with_name(f".{FILE}.tmp")
            temporary.write_text(json.dumps(document), encoding="utf-8")
            temporary.replace(path)
