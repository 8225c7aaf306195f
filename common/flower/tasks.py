"""Flower's runtime interface: how a process of ours asks a SuperNode or a SuperLink for work.

Invariant: the token of a task stays in memory; Flower's own way passes it as an argument of a process.
"""

from __future__ import annotations

from types import TracebackType
from typing import Literal, Self

from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient


class Tasks:
    """A connection over which a process asks for work of one kind.

    Parameters
    ----------
    address : host:port of the SuperNode or SuperLink.
    secret : what this process shares with it.
    authority : PEM of who signed the other side's certificate; None for a connection within the machine, without TLS.
    """

    def __init__(
        self, address: str, kind: Literal["flwr-clientapp", "flwr-serverapp"], secret: bytes,
        authority: bytes | None = None,
    ) -> None:  # fmt: skip
        self._asks = AcquireTaskRequest(supported_task_types=[kind])
        guard = SuperExecAuthHttpInterceptor(
            master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
        )
        interceptors: list[ProtobufClientInterceptor] = [
            RuntimeVersionHttpInterceptor(component_name="SuperExec"),
            guard,
        ]
        self._client = RuntimeHttpClient.from_server_address(
            address, authority is None, authority, interceptors
        )

    def __enter__(self) -> Self:
        self._client.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.__exit__(kind, fault, trace)

    def take(self) -> str:
        """The token of a task; empty where there is none now.

        Raises
        ------
        httpx.HTTPError : the other side can't be reached, or refuses.
        """
        given = self._client.AcquireTask(self._asks)
        return str(given.token) if given.HasField("task") else ""
