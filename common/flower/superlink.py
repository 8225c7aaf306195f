"""Flower's SuperLink, with something asked before its Fleet interface and without a log line for each request.

Invariant: this is Flower's own program with two things added and one wait shortened.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable
from typing import Any

from flwr.supercore.corestate import in_memory_corestate as corestate
from flwr.superlink import main as link
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from starlette.middleware import Middleware
from starlette.requests import Request

FLEET = "/v1/fleet/"
"""Where the paths of the Fleet interface begin."""


def request_of(request: Request) -> object:
    """What is asked for, as Flower has read it; None where it's nothing of Flower's."""
    return getattr(request.state, "protobuf_request", None)


def answer_of(request: Request) -> object:
    """What Flower answers, after the request has passed."""
    return getattr(request.state, "protobuf_response", None)


def run_superlink(
    before_fleet: Callable[[], Middleware], with_state: Callable[[Any], object], broken_off_s: int
) -> None:
    """Run the SuperLink with the arguments of `flower-superlink`, until it is stopped.

    Parameters
    ----------
    before_fleet : makes what is asked about each request before Flower looks at who it comes from.
    with_state : called once with the SuperLink's state in memory.
    broken_off_s : how long the rest of an upload that broke off is waited for; Flower's own three minutes would hold
        up the round.
    """
    flowers_own = link._get_middleware

    def with_one_more() -> list[Middleware]:
        chain = flowers_own()
        before = [str(each.cls) for each in chain].index(str(NodeAuthMiddleware))
        chain.insert(before, before_fleet())
        return chain

    link._get_middleware = with_one_more
    corestate.OBJECT_PUSH_SESSION_TTL_SECONDS = broken_off_s  # type: ignore[attr-defined]
    program = importlib.import_module(
        "flwr.superlink.cli.flower_superlink"
    )  # the package hides it by its function
    program.uvicorn.run = functools.partial(_run, program.uvicorn.run, with_state)
    program.flower_superlink()


def _run(flowers_own: Callable[..., None], with_state: Callable[[Any], object], **settings: Any) -> None:
    with_state(settings["app"].state.linkstate_factory.state())
    # Sites ask several times a second: a line for each would fill the disk.
    flowers_own(**{**settings, "access_log": False})
