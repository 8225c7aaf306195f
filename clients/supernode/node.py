"""Flower's SuperNode, with four things changed: it shows the site's certificate, understands the coordinator's
refusals, asks for work several times a second in place of once in three, and drops a message whole.

    python -m clients.supernode.node --kit KIT --refusal FILE <arguments of flower-supernode>

Flower's own program takes an authority's certificate only, so with a coordinator that asks for client certificates it
needs a second program that adds one, on a port that everyone on the machine can use; this one adds it by itself.

Invariant: this is Flower's program; the names of Flower 1.41 that this touches aren't public, so they are looked up
here alone, and the deployment's tests fail when they go.
"""

from __future__ import annotations

import argparse
import os
import ssl
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import httpx
from flwr.supercore.protobuf.client import ProtobufCall, ProtobufClientInterceptor, ProtobufRequestContext
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import fleet_http_connection as connection
from flwr.supernode import start_client_internal as node
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

from clients.supernode.kit import Kit
from common.files import write_json
from common.flower.pace import quicken
from common.provision.door import EDITION, INSTANCE, REFUSED, Refusal
from common.runtime.pauses import Pauses

_IDLE_S = (
    1.0  # Flower sleeps three seconds where there's no message, half a second where its worker is at one
)
Pull = Callable[..., dict[str, bytes]]
REFUSED_CODE = 3


class AtTheDoor:
    """Says who asks, and ends the process with the reason when the coordinator turns the site away for good."""

    def __init__(self, headers: dict[str, str], refusal: Path) -> None:
        self._headers, self._refusal = headers, refusal

    def intercept(self, context: ProtobufRequestContext, call_next: ProtobufCall) -> httpx.Response:
        """Add the headers; look at the answer."""
        context.request.headers.update(self._headers)
        try:
            response = call_next(context)
        except httpx.TransportError as fault:
            no = Refusal.of_alert(str(fault))
            if no is None:
                raise  # Flower tries again
        else:
            no = Refusal.parse(response.headers.get(REFUSED, ""), response.content)
        if no is not None and no.code not in ("not_yours", "too_large"):
            write_json(self._refusal, {"code": no.code, "detail": no.detail})
            sys.stderr.write(no.sentence() + "\n")
            sys.stderr.flush()
            os._exit(REFUSED_CODE)  # from any of Flower's threads, all of which would only try again
        return response


def site_context(kit: Kit) -> ssl.SSLContext:
    """TLS with the league's authority alone, and the site's certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_verify_locations(kit.folder / "ca.crt")
    context.load_cert_chain(kit.folder / "client.crt", kit.folder / "private" / "client.key")
    return context


def client_of(kit: Kit, refusal: Path) -> type[FleetHttpClient]:
    """Flower's client of the Fleet interface, for this kit."""
    door = AtTheDoor({INSTANCE: kit.instance(), EDITION: str(kit.contract().edition)}, refusal)
    context = site_context(kit)

    class SiteClient(FleetHttpClient):
        @classmethod
        def from_server_address(
            cls, server_address: str, insecure: bool, root_certificates: bytes | str | None,
            interceptors: Sequence[ProtobufClientInterceptor], **more: Any,
        ) -> Self:  # fmt: skip
            return cls(
                f"https://{server_address}", interceptors=[door, *interceptors], verify=context, **more
            )

    return SiteClient


def main() -> None:
    """Run the SuperNode with the arguments of `flower-supernode`."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--kit", type=Path, required=True)
    parser.add_argument("--refusal", type=Path, required=True)
    own, flowers = parser.parse_known_args()
    sys.argv[1:] = flowers
    connection.FleetHttpClient = client_of(Kit.read(own.kit), own.refusal)  # type: ignore[attr-defined]
    quicken()
    node.pull_objects = whole_or_dropped(node.pull_objects)  # type: ignore[attr-defined]
    node.time = SimpleNamespace(sleep=short_sleep(Pauses(0.1, 1.0)))  # type: ignore[assignment, attr-defined]
    flower_supernode()


def whole_or_dropped(pull_objects: Pull) -> Pull:
    """The same, but a run that ends meanwhile is a failure like any other.

    Flower drops such a message and leaves its task behind, for whose parts the worker would then wait for hours.
    """

    def pull(*given: Any, **named: Any) -> dict[str, bytes]:
        try:
            return pull_objects(*given, **named)
        except RunNotRunningException:
            raise RuntimeError("the run has ended") from None

    return pull


def short_sleep(pauses: Pauses, sleep: Callable[[float], None] = time.sleep) -> Callable[[float], None]:
    """What the SuperNode does in place of sleeping half a second for its worker, or three seconds for work."""

    def nap(seconds: float) -> None:
        if seconds < _IDLE_S:
            pauses.worked()
        sleep(min(seconds, pauses.next_s()))

    return nap


if __name__ == "__main__":
    main()
