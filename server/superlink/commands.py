"""Ask a coordinator that is up for a run, and wait for what comes of it.

Invariant: a call returns only if a model was released; every other end is an error of the league's own kind, with its
exit code.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from common.errors import HansaError, RunError
from common.provision.contract import FILE, Contract
from common.storage.run_folder import RunFolder
from server.run.stopping import take_back
from server.superlink.orders import OrderStatus, Post, RunOrder

_LOOK_S = 0.25
_GONE_S = 5.0
RUN = "run"


def order_run(kit: Path, *, resume: bool = False) -> RunOrder:
    """Order the kit's run to begin or to go on; returns the order.

    Raises
    ------
    RunError : the coordinator isn't up, the run is under way, or there is nothing to resume.
    """
    post, folder = Post(kit.resolve()), run_of(kit)
    post.require_up()
    if is_under_way(post):
        raise RunError(
            "the run is under way already", where=str(kit),
            next_step=f"look at it with 'hansa coordinator status {kit}', or stop it first",
        )  # fmt: skip
    if resume and not folder.config_file.exists():
        raise RunError(
            "there is no run to resume", where=str(folder.root),
            next_step=f"start one with 'hansa coordinator run {kit}'",
        )  # fmt: skip
    contract = Contract.read(kit / FILE)
    folder.create(contract.config, [member.entry() for member in contract.members])
    take_back(folder)
    order = RunOrder(str(folder.root))
    post.give(order)
    return order


def order_stop(kit: Path, *, now: bool) -> None:
    """Order the kit's run to stop, after its round or at once.

    Raises
    ------
    RunError : the coordinator isn't up, or no run is under way.
    """
    post = Post(kit.resolve())
    post.require_up()
    order = post.order()
    if order is None or not is_under_way(post):
        raise RunError("no run is under way", where=str(kit), next_step="there is nothing to stop")
    post.give(replace(order, wanted=False, now=now))


def await_stop(kit: Path, *, seconds: float) -> OrderStatus:
    """Wait until the run that was ordered to stop has.

    Raises
    ------
    RunError : it didn't in time; it still will.
    """
    post, ends = Post(kit.resolve()), time.monotonic() + seconds
    while time.monotonic() < ends:
        outcome = post.outcome()
        if outcome is not None and outcome.state != "running":
            return outcome
        post.require_up()
        time.sleep(_LOOK_S)
    raise RunError(
        "the run hasn't stopped yet", where=str(kit), why="its round isn't over",
        next_step="wait, or stop it at once with --now",
    )  # fmt: skip


def await_model(kit: Path, order: RunOrder, look: Callable[[], None]) -> OrderStatus:
    """Wait until the order's run has released its model, calling `look` now and then.

    Raises
    ------
    HansaError : it ended without a model, or the coordinator is gone.
    """
    post = Post(kit.resolve())
    seen = time.monotonic()
    while True:
        outcome = post.outcome()
        look()
        if outcome is not None and outcome.number == order.number and outcome.state != "running":
            break
        if post.is_up():
            seen = time.monotonic()
        elif time.monotonic() - seen > _GONE_S:
            post.require_up()
        time.sleep(_LOOK_S)
    if outcome.state != "released":
        raise fault_from(outcome.fault)
    return outcome


def is_under_way(post: Post) -> bool:
    """Whether a run was ordered that hasn't come to an end."""
    order, outcome = post.order(), post.outcome()
    if order is None:
        return False
    ended = outcome is not None and outcome.number == order.number and outcome.state != "running"
    return not ended and (order.wanted or outcome is not None)


def run_of(kit: Path) -> RunFolder:
    """The run folder of a coordinator's kit."""
    return RunFolder(kit.resolve() / RUN)


def fault_from(record: dict[str, Any]) -> HansaError:
    """The error that a record of it describes."""
    kinds = {kind.__name__: kind for kind in HansaError.__subclasses__()}
    kind = kinds.get(str(record.get("error")), RunError)
    return kind(
        str(record.get("what") or "the run released no model"), where=str(record.get("where", "")),
        why=str(record.get("why", "")), next_step=str(record.get("next_step", "")),
    )  # fmt: skip
