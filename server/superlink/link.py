"""Flower's SuperLink, with Hansa's door before its Fleet interface and without a log line for each request.

    python -m server.superlink.link --kit KIT <arguments of flower-superlink>

Invariant: this is Flower's own program with two things added and one wait shortened; the names of Flower 1.41 that this
touches aren't public, so they are looked up here alone, and the deployment's tests fail when they go.
"""

from __future__ import annotations

import functools
import importlib
import logging
import sys
from pathlib import Path

from flwr.supercore.corestate import in_memory_corestate as corestate
from flwr.superlink import main as link
from flwr.superlink.routers.fleet.node_auth import NodeAuthMiddleware
from google.protobuf.message import Message as Proto
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from common.provision.door import REFUSED, Refusal
from server.superlink.access import Door
from server.superlink.sweep import keep_swept

_BROKEN_OFF_S = 45
_log = logging.getLogger("hansa.door")


class AtTheDoor(BaseHTTPMiddleware):
    """Asks the door about every request to the Fleet interface, before Flower looks at it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        super().__init__(app)
        self._door = door

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Let a request through, or answer with the reason."""
        asked = getattr(request.state, "protobuf_request", None)
        if not request.url.path.startswith("/v1/fleet/") or not isinstance(asked, Proto):
            return await call_next(request)
        try:
            name = self._door.admit(request.headers)
            self._door.check(name, asked)
        except Refusal as no:
            _log.warning("refused: %s: %s", request.url.path, no.what)
            return Response(no.body(), no.status, {REFUSED: no.code}, "application/json")
        response = await call_next(request)
        if response.status_code < 400:
            self._door.learn(name, getattr(request.state, "protobuf_response", None))
        return response


def main() -> None:
    """Run the SuperLink."""
    place = sys.argv.index("--kit")
    kit = Path(sys.argv[place + 1])
    del sys.argv[place : place + 2]
    flowers_own = link._get_middleware

    def with_the_door() -> list[Middleware]:
        chain = flowers_own()
        before = [str(each.cls) for each in chain].index(str(NodeAuthMiddleware))
        chain.insert(before, Middleware(AtTheDoor, door=Door(kit)))
        return chain

    link._get_middleware = with_the_door
    # The coordinator waits for the rest of an upload that broke off; Flower's three minutes would hold up the round.
    corestate.OBJECT_PUSH_SESSION_TTL_SECONDS = _BROKEN_OFF_S  # type: ignore[attr-defined]
    program = importlib.import_module(
        "flwr.superlink.cli.flower_superlink"
    )  # the package hides it by its function
    # Sites ask several times a second: a line for each would fill the disk.
    program.uvicorn.run = functools.partial(_run, program.uvicorn.run)
    program.flower_superlink()


def _run(flowers_own, **settings):  # type: ignore[no-untyped-def]
    keep_swept(settings["app"].state.linkstate_factory.state())
    flowers_own(**{**settings, "access_log": False})


if __name__ == "__main__":
    main()
