"""Requests that no honest program sends: odd spellings, two in one, and a thousand that are broken somewhere."""

from __future__ import annotations

import random
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from common.provision.door import REFUSED, ROUTES
from tests.deployment.support.places import PROTOBUF, Seat

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "target",
    [
        "/v1/fleet/../control/start-run", "/v1/fleet/%2e%2e/control/start-run", "//v1/control/start-run",
        "/v1/fleet/pull-messages/../../control/start-run", "/v1/fleet/pull-messages?x=/v1/control/start-run",
        "/v1/fleet/pull-messages#/v1/control/start-run", "/V1/CONTROL/START-RUN", "/v1/control/start-run;x",
        "https://127.0.0.1/v1/control/start-run", "/v1%2fcontrol%2fstart-run", "/v1/fleet/pull-messages%00",
        "/v1/fleet\\..\\control\\start-run", "*",
    ],
)  # fmt: skip
def test_no_spelling_of_an_address_leads_elsewhere(league: SimpleNamespace, target: str) -> None:
    answer = _raw(league, f"POST {target} HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\n"
                  "Content-Length: 0\r\nConnection: close\r\n\r\n".encode())  # fmt: skip
    assert answer.split(b" ", 2)[1:2] in ([b"404"], [b"400"], [b"403"]), answer[:200]


def test_two_requests_in_one_are_two_requests(league: SimpleNamespace) -> None:
    """Smuggling: a second request hidden behind a wrong length gets its own answer, from the guard, or none."""
    rest = b" HTTP/1.1\r\nHost: x\r\nContent-Type: application/protobuf\r\n"
    hidden = b"POST /v1/control/list-runs" + rest + b"Content-Length: 0\r\n\r\n"
    head = b"POST /v1/fleet/pull-messages" + rest
    for lengths in (
        b"Content-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n",
        b"Content-Length: 0\r\n\r\n",
        b"Content-Length: 0\r\nContent-Length: 5\r\n\r\n",
        b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    ):
        answer = _raw(league, head + lengths + hidden)
        assert b"200 OK" not in answer
        assert b"application/protobuf" not in answer


def test_a_thousand_malformed_requests(league: SimpleNamespace) -> None:
    """No crash, no leak: the same process answers afterwards, and no answer tells of the inside."""
    draw, seat = random.Random(5), Seat.at(league.kits, "bergen")
    context, broken = seat.tls(), [_broken(draw) for _ in range(1000)]
    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(lambda data: _raw(league, data, context=context), broken))
    for data, answer in zip(broken, answers, strict=True):
        assert b" 200" not in answer.split(b"\r\n", 1)[0], (data, answer[:300])
        for word in (b"Traceback", b"site-packages", b"/kits/", b".py", b"sqlalchemy"):
            assert word not in answer, (data, answer[:600])
    assert sum(map(bool, answers)) > 300
    with socket.create_connection(_address(league), timeout=5) as bare:
        bare.sendall(draw.randbytes(400))  # no TLS at all
    with seat.http() as client:
        assert client.post("/v1/fleet/pull-messages", headers=PROTOBUF).headers[REFUSED] in (
            "node_key",
            "duplicate",
        )
    assert league.child.runs()
    log = (league.kits / "coordinator" / "logs" / "up.log").read_text()
    assert "is started again" not in log


def _broken(draw: random.Random) -> bytes:
    """A request that is wrong somewhere."""
    path = draw.choice([*sorted(ROUTES), "/v1/control/start-run", "/" + "a" * draw.randrange(9000)])
    body = draw.randbytes(draw.randrange(200))
    headers = [f"Content-Type: {draw.choice(['application/protobuf', 'text/html', ''])}"]
    headers += [f"{draw.choice(['flwr-public-key', 'flwr-signature', 'flwr-timestamp', 'x-hansa-edition', 'Host'])}: "
                + "".join(chr(draw.randrange(1, 256)) for _ in range(draw.randrange(60)))
                for _ in range(draw.randrange(6))]  # fmt: skip
    headers.append(draw.choice([f"Content-Length: {len(body)}", "Content-Length: -1", "Content-Length: 99999999999999",
                                "Transfer-Encoding: chunked", f"Content-Length: {len(body) + 9}", ""]))  # fmt: skip
    line = draw.choice(
        [f"POST {path} HTTP/1.1", f"GET {path} HTTP/9.9", f"{path}", "\x00\x01", f"PRI * HTTP/2.0 {path}"]
    )
    text = "\r\n".join([line, *headers, "Connection: close", "", ""]).encode("latin-1", "replace")
    return draw.choice([text + body, text[: draw.randrange(1, len(text))], draw.randbytes(300)])


def _address(league: SimpleNamespace) -> tuple[str, int]:
    host, _, port = Seat.at(league.kits, "bergen").kit.coordinator.rpartition(":")
    return host, int(port)


def _raw(
    league: SimpleNamespace, data: bytes, *, context: ssl.SSLContext | None = None, limit_s: float = 10.0
) -> bytes:
    """What comes back for these very bytes, over TLS with bergen's certificate."""
    context = context or Seat.at(league.kits, "bergen").tls()
    got = b""
    with (
        socket.create_connection(_address(league), timeout=limit_s) as bare,
        context.wrap_socket(bare, server_hostname="127.0.0.1") as tls,
    ):
        tls.settimeout(0.1 if b"Connection: close" not in data else 0.3)
        try:
            tls.sendall(data)
            while part := tls.recv(65536):
                got += part
        except (TimeoutError, OSError):
            pass
    return got
