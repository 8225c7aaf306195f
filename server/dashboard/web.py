"""The page, its JSON and Prometheus' text, over HTTP on this machine alone.

Invariants: it listens on a loopback address and answers only requests that name one (a foreign page can't reach it by
a name of its own); it only reads; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Self

from common.errors import HansaError, MachineError
from server.dashboard.gauges import exposition
from server.dashboard.overview import overview, run_folder_of

HOST = "127.0.0.1"
_PAGES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/app.js": ("app.js", "text/javascript; charset=utf-8"),
    "/words.js": ("words.js", "text/javascript; charset=utf-8"),
    "/style.css": ("style.css", "text/css; charset=utf-8"),
}
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
}  # fmt: skip


class Dashboard:
    """The server of one run folder or coordinator's kit.

    Parameters
    ----------
    port : 0 finds a free one.

    Raises
    ------
    MachineError : the port is taken.
    """

    def __init__(self, path: Path, port: int = 0) -> None:
        handler = type("_Handler", (_Handler,), {"path_of_run": path})
        try:
            self._server = ThreadingHTTPServer((HOST, port), handler)
        except OSError as fault:
            raise MachineError(
                "the dashboard can't listen", where=f"{HOST}:{port}", why=str(fault.strerror),
                next_step="choose another port with --port",
            ) from None  # fmt: skip
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://{HOST}:{self._server.server_address[1]}/"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Handler(BaseHTTPRequestHandler):
    path_of_run: Path
    server_version, sys_version = "hansa", ""
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        """Answer one request."""
        if self.headers.get("Host", "").rpartition(":")[0] not in (HOST, "localhost"):
            self._send(403, b"this page is for this machine alone\n", "text/plain")
            return
        path = self.path.partition("?")[0]
        if path in _PAGES:
            name, kind = _PAGES[path]
            self._send(200, (files("server.dashboard") / name).read_bytes(), kind)
        elif path in ("/api/run", "/metrics"):
            self._tell(path)
        else:
            self._send(404, b"there is no such page\n", "text/plain")

    def _tell(self, path: str) -> None:
        try:
            status_page = overview(run_folder_of(self.path_of_run))
        except HansaError as fault:
            self._send(503, json.dumps(fault.as_dict()).encode(), "application/json")
            return
        if path == "/metrics":
            self._send(200, exposition(status_page), "text/plain; version=0.0.4; charset=utf-8")
        else:
            self._send(
                200, json.dumps(status_page, ensure_ascii=False).encode(), "application/json; charset=utf-8"
            )

    def _send(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status, http.client.responses[status])
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Requests aren't logged: the page asks every two seconds."""
