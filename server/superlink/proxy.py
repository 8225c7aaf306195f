"""The coordinator's plain guard: a small proxy that asks sites for their certificate and lets nothing else through.

    python -m server.superlink.proxy --kit KIT --listen 0.0.0.0:9443 --superlink 127.0.0.1:PORT

The production path is nginx (`server.superlink.front`), which does the same; this one is for where no nginx is wanted.

Invariants: TLS 1.3 with a client certificate of the league's authority that isn't on its list of revoked ones, or no
connection at all; of the routes behind it, those in `common.provision.door.ROUTES` exist and no others; what a client
claims about its own certificate is overwritten.
"""

from __future__ import annotations

import argparse
import asyncio
import ssl
import urllib.parse
from asyncio import sslproto
from pathlib import Path
from typing import cast

import httpx
import uvicorn
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from common.provision import kit_files
from common.provision.door import CERTIFICATE, EDITION, INSTANCE, MOST_BODY_BYTES, REFUSED, ROUTES, Refusal
from common.runtime import logs

_PASSED_ON = {
    "content-type", "accept", "user-agent", "flwr-public-key", "flwr-signature", "flwr-timestamp",
    "flwr-package-name", "flwr-package-version", "flwr-component-name", INSTANCE, EDITION,
}  # fmt: skip
_PASSED_BACK = {"content-type", "flwr-version-incompatibility-message", REFUSED}
_PEER = "hansa.peer"


class PeerProtocol(H11Protocol):
    """Tells the application which certificate the other side has shown."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Note the certificate of a new connection."""
        super().connection_made(transport)
        shown = transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        peer = urllib.parse.quote(ssl.DER_cert_to_PEM_cert(shown)) if shown else ""
        inner = self.app

        async def told(scope: Scope, receive: Receive, send: Send) -> None:
            await inner({**scope, _PEER: peer}, receive, send)

        self.app = told


class TellingProtocol(sslproto.SSLProtocol):
    """Sends the alert with which a handshake fails, so a site learns why; asyncio of 3.11 leaves it in its buffer."""

    def _on_handshake_complete(self, handshake_exc: BaseException | None) -> None:
        if handshake_exc is not None:
            self._process_outgoing()  # type: ignore[attr-defined]
        super()._on_handshake_complete(handshake_exc)


class Guard:
    """The application of the proxy."""

    def __init__(self, superlink: str, authority: Path) -> None:
        context = ssl.create_default_context(cafile=str(authority))
        self._client = httpx.AsyncClient(base_url=f"https://{superlink}", verify=context, timeout=60.0)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass one request on, or refuse it."""
        if scope["type"] != "http":
            return  # neither WebSockets nor a lifespan
        request = Request(scope, receive)
        try:
            response = await self._answer(request, str(scope.get(_PEER, "")))
        except Refusal as no:
            response = Response(
                no.body(), no.status, {REFUSED: no.code, "connection": "close"}, "application/json"
            )
        await response(scope, receive, send)

    async def _answer(self, request: Request, peer: str) -> Response:
        # The raw path: no decoding, no dot segments, no query may make another route of an allowed one.
        path = cast(bytes, request.scope.get("raw_path", b"")).decode("latin-1")
        if request.method != "POST" or path not in ROUTES or request.scope.get("query_string"):
            raise Refusal("route")
        if not peer:
            raise Refusal("certificate_missing")
        headers = {name: value for name, value in request.headers.items() if name in _PASSED_ON}
        body = await _bounded(request)
        try:
            given = await self._client.post(path, content=body, headers={**headers, CERTIFICATE: peer})
        except httpx.TransportError:
            return Response(b"", 503)
        back = {name: value for name, value in given.headers.items() if name in _PASSED_BACK}
        return Response(given.content, given.status_code, back)


async def _bounded(request: Request) -> bytes:
    """The body, as long as it isn't larger than any message."""
    if int(request.headers.get("content-length") or 0) > MOST_BODY_BYTES:
        raise Refusal("too_large")
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BODY_BYTES:
            raise Refusal("too_large")
        parts.append(part)
    return b"".join(parts)


def tls(kit: Path) -> ssl.SSLContext:
    """What the guard demands of a connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(kit / kit_files.SERVER_CERTIFICATE, kit / "private" / kit_files.SERVER_KEY)
    context.load_verify_locations(kit / kit_files.AUTHORITY)
    context.load_verify_locations(kit / kit_files.REVOKED)
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser(
        description="Let sites, and nobody else, reach the coordinator's SuperLink."
    )
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--listen", required=True, help="host:port that sites reach")
    parser.add_argument("--superlink", required=True, help="host:port on this machine")
    given = parser.parse_args()
    host, _, port = str(given.listen).rpartition(":")
    logs.configure("guard")
    config = uvicorn.Config(
        Guard(given.superlink, given.kit / kit_files.AUTHORITY), host=host, port=int(port), http=PeerProtocol,
        ws="none", lifespan="off",
        loop="asyncio", access_log=False, log_config=None, server_header=False, limit_concurrency=512,
        timeout_keep_alive=75, ssl_context_factory=lambda _config, _default: tls(given.kit),
    )  # fmt: skip
    sslproto.SSLProtocol = TellingProtocol  # type: ignore[misc]
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main()
