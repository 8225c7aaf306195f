"""The process that does a site's work: it takes messages from the SuperNode and answers with the installed ClientApp.

Flower starts a fresh process per message, which imports torch anew, and runs the code that the coordinator sent.
This one imports once, keeps the opened site between rounds, and runs the Hansa that is installed here.

Invariants: a bundle whose code isn't the contract's is refused before anything else is looked at; nothing of the
bundle is written to the disk or run; settings come from the site's own contract and never from the run; the token
of a message stays in memory.
"""

from __future__ import annotations

import argparse
import datetime as dt
import functools
import logging
import signal
import time
from pathlib import Path

import httpx
from flwr.app import Context, Error, Message

from clients.app import app
from clients.supernode.heartbeat import FILE, show_life
from clients.supernode.kit import Kit
from clients.supernode.membership import ANSWERED, PAUSED
from common.errors import HansaError, WireError
from common.files import write_json
from common.flower.clientapp import answer_task
from common.flower.pace import quicken
from common.flower.tasks import Tasks
from common.provision.code import bundle_code, code_digest
from common.provision.contract import Contract
from common.runtime import logs
from common.runtime.pauses import Pauses

_WAIT_FOR_NODE_S = 60.0
_REFUSED = 1004
_log = logging.getLogger("hansa.worker")


def main() -> None:
    """Serve one SuperNode until stopped."""
    parser = argparse.ArgumentParser(description="Do a site's work for its SuperNode.")
    parser.add_argument("--node", required=True, help="address of the SuperNode's runtime, host:port")
    parser.add_argument("--secret", type=Path, required=True, help="file of the secret shared with it")
    parser.add_argument("--kit", type=Path, required=True)
    given = parser.parse_args()
    logs.configure("worker")
    quicken()
    # Flower interrupts the process whose run was stopped; this one outlives its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kit = Kit.read(given.kit)
    show_life(kit.private / FILE)
    kit.contract().require_code()
    import clients.trainer  # noqa: F401 — torch and the encoders, before the first round waits for them

    serve(given.node, given.secret.read_bytes(), kit)


def serve(node: str, secret: bytes, kit: Kit) -> None:
    """Take task after task; a task that fails is answered, a node that is gone for a minute ends this process."""
    seen, pauses = time.monotonic(), Pauses(0.05, 0.4)
    with Tasks(node, "flwr-clientapp", secret) as tasks:
        while True:
            try:
                token = tasks.take()
                seen = time.monotonic()
            except httpx.HTTPError as fault:
                if time.monotonic() - seen > _WAIT_FOR_NODE_S:
                    _log.warning("the SuperNode is gone: %s", type(fault).__name__)
                    return
                time.sleep(0.5)
                continue
            if token:
                try:
                    answer_task(node, token, functools.partial(answer, kit))
                except httpx.HTTPError as fault:
                    _log.error("a message was lost: %s", type(fault).__name__)
                pauses.worked()
            else:
                time.sleep(pauses.next_s())


def answer(kit: Kit, message: Message, context: Context, bundle: bytes) -> Message:
    """The installed app's reply, or a refusal."""
    began = time.monotonic()
    try:
        require_bundle(bundle, kit.contract())
        if message.metadata.message_type == "train" and (kit.private / PAUSED).exists():
            raise WireError("the site pauses, as its administrator wishes", where="site")
    except HansaError as fault:
        _log.error("refused: %s", fault.sentence())
        reply = Message(Error(_REFUSED, f"{type(fault).__name__}: {fault.what}"), reply_to=message)
    else:
        context.run_config = {}
        reply = app(message, context)
    _note(kit, message, reply, time.monotonic() - began)
    return reply


def _note(kit: Kit, message: Message, reply: Message, seconds: float) -> None:
    told = message.metadata
    outcome = f"refused ({reply.error.code})" if reply.has_error() else "answered"
    _log.info("%s %s: %s, %.2f s", told.message_type, told.group_id, outcome, seconds)
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    record = {
        "asked": told.message_type, "group": told.group_id, "at": at, "outcome": outcome, "seconds": round(seconds, 2),
    }  # fmt: skip
    write_json(kit.logs / ANSWERED, record)


def require_bundle(bundle: bytes, contract: Contract) -> None:
    """Refuse code that the contract doesn't name, though it would never be run.

    Raises
    ------
    WireError : the bundle's code isn't the contract's.
    """
    if code_digest(bundle_code(bundle)) != contract.code:
        raise WireError("the coordinator's bundle isn't the contract's code", where="bundle")


if __name__ == "__main__":
    main()
