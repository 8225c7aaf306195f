"""A site's worker process: it takes messages from the SuperNode and answers them with the installed ClientApp.

Flower starts a new process for each message, which imports torch again, and runs the code that the coordinator sent.
This process imports once, keeps the opened site between rounds, and runs the Hansa that is installed here.

Invariants: a bundle whose code isn't the contract's is refused before anything else is checked. Nothing of the bundle
is written to the disk or run. Settings come from the site's own contract, never from the run. The token of a message
stays in memory.
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
    arguments = parser.parse_args()
    logs.configure("worker")
    quicken()
    # Flower interrupts a process when its run is stopped; this process serves further runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    kit = Kit.read(arguments.kit)
    show_life(kit.private / FILE)
    kit.contract().require_code()
    import clients.trainer  # noqa: F401 — torch and the encoders, before the first round waits for them

    serve(arguments.node, arguments.secret.read_bytes(), kit)


def serve(node: str, secret: bytes, kit: Kit) -> None:
    """Answer task after task, failed ones too; end this process if the node is gone for a minute."""
    last_contact, pauses = time.monotonic(), Pauses(0.05, 0.4)
    with Tasks(node, "flwr-clientapp", secret) as tasks:
        while True:
            try:
                token = tasks.take()
                last_contact = time.monotonic()
            except httpx.HTTPError as fault:
                if time.monotonic() - last_contact > _WAIT_FOR_NODE_S:
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
    metadata = message.metadata
    outcome = f"refused ({reply.error.code})" if reply.has_error() else "answered"
    _log.info("%s %s: %s, %.2f s", metadata.message_type, metadata.group_id, outcome, seconds)
    at = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    record = {
        "asked": metadata.message_type,
        "group": metadata.group_id,
        "at": at,
        "outcome": outcome,
        "seconds": round(seconds, 2),
    }
    write_json(kit.logs / ANSWERED, record)


def require_bundle(bundle: bytes, contract: Contract) -> None:
    """Refuse a bundle with other code than the contract's, although the code in a bundle is never run.

    Raises
    ------
    WireError : the bundle's code isn't the contract's.
    """
    if code_digest(bundle_code(bundle)) != contract.code:
        raise WireError("the coordinator's bundle isn't the contract's code", where="bundle")


if __name__ == "__main__":
    main()
