"""Flower's SuperNode, with its own way to the coordinator, other pauses, and messages dropped whole.

Flower's own program takes an authority's certificate only, so with a coordinator that asks for client certificates it
needs a second program that adds one, on a port that everyone on the machine can use.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self

from flwr.supercore.protobuf.client import ProtobufCall as Call
from flwr.supercore.protobuf.client import ProtobufClientInterceptor as Interceptor
from flwr.supercore.protobuf.client import ProtobufRequestContext as RequestContext
from flwr.supercore.run import RunNotRunningException
from flwr.supernode import fleet_http_connection as connection
from flwr.supernode import start_client_internal as node
from flwr.supernode.cli.flower_supernode import flower_supernode
from flwr.supernode.fleet_http_client import FleetHttpClient

__all__ = ["Call", "Interceptor", "RequestContext", "run_supernode", "whole_or_dropped"]

Pull = Callable[..., dict[str, bytes]]


def run_supernode(door: Interceptor, tls: ssl.SSLContext, sleep: Callable[[float], None]) -> None:
    """Run the SuperNode with the arguments of `flower-supernode`, until it is stopped.

    Parameters
    ----------
    door : sees each request to the coordinator and its answer.
    sleep : what the SuperNode does in place of sleeping so many seconds.
    """
    connection.FleetHttpClient = _client(door, tls)  # type: ignore[attr-defined]
    node.pull_objects = whole_or_dropped(node.pull_objects)  # type: ignore[attr-defined]
    node.time = SimpleNamespace(sleep=sleep)  # type: ignore[assignment, attr-defined]
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


def _client(door: Interceptor, tls: ssl.SSLContext) -> type[FleetHttpClient]:
    """Flower's client of the Fleet interface, with one more to ask and TLS of our own."""

    class SiteClient(FleetHttpClient):
        @classmethod
        def from_server_address(
            cls, server_address: str, insecure: bool, root_certificates: bytes | str | None,
            interceptors: Sequence[Interceptor], **more: Any,
        ) -> Self:  # fmt: skip
            return cls(f"https://{server_address}", interceptors=[door, *interceptors], verify=tls, **more)

    return SiteClient
