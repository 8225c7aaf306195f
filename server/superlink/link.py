"""Flower's SuperLink, with Hansa's door before its Fleet interface and what nobody waits for swept out of its memory.

python -m server.superlink.link --kit KIT <arguments of flower-superlink>
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path

from google.protobuf.message import Message as Proto
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from common.flower.superlink import FLEET, answer_of, request_of, run_superlink
from common.provision.door import REFUSED, Refusal
from server.superlink.access import Door
from server.superlink.sweep import keep_swept

_BROKEN_OFF_S = 45
_log = logging.getLogger("hansa.door")


class DoorMiddleware(BaseHTTPMiddleware):
    """Asks the door about every request to the Fleet interface, before Flower looks at it."""

    def __init__(self, app: ASGIApp, door: Door) -> None:
        super().__init__(app)
        self._door = door

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Let a request through, or answer with the reason."""
        asked = request_of(request)
        if not request.url.path.startswith(FLEET) or not isinstance(asked, Proto):
            return await call_next(request)
        try:
            name = self._door.admit(request.headers)
            self._door.check(name, asked)
        except Refusal as no:
            _log.warning("refused: %s: %s", request.url.path, no.what)
            return Response(no.body(), no.status, {REFUSED: no.code}, "application/json")
        response = await call_next(request)
        if response.status_code < 400:
            self._door.learn(name, answer_of(request))
        return response


def main() -> None:
    """Run the SuperLink."""
    place = sys.argv.index("--kit")
    kit = Path(sys.argv[place + 1])
    del sys.argv[place : place + 2]
    run_superlink(lambda: Middleware(DoorMiddleware, door=Door(kit)), keep_swept, _BROKEN_OFF_S)


if __name__ == "__main__":
    main()
