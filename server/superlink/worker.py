"""The process that runs the coordinator's ServerApp: it waits for a run at the SuperLink and carries it out.

Invariants: the token of the run stays in memory (Flower's own way passes it as an argument); one process runs one run
and ends with it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from queue import Queue

import httpx
from flwr.proto.runtime_pb2 import AcquireTaskRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
from flwr.supercore.protobuf.client import ProtobufClientInterceptor
from flwr.supercore.runtime import RuntimeHttpClient
from flwr.superlink.runtime import run_serverapp

import server.app  # noqa: F401 — the run doesn't wait for these imports
from common.flower.pace import quicken
from common.runtime import logs

_PAUSE_S = 0.2


def main() -> None:
    """Carry out the next run."""
    parser = argparse.ArgumentParser(description="Run the coordinator's app.")
    parser.add_argument("--superlink", required=True, help="its address on this machine, host:port")
    parser.add_argument("--secret", type=Path, required=True, help="file of the secret shared with it")
    parser.add_argument("--authority", type=Path, required=True, help="the league's certificate authority")
    given = parser.parse_args()
    logs.configure("coordinator's app")
    quicken()
    authority = given.authority.read_bytes()
    token = await_run(given.superlink, given.secret.read_bytes(), authority)
    run_serverapp(given.superlink, Queue(), token, False, authority, None, False)


def await_run(superlink: str, secret: bytes, authority: bytes) -> str:
    """Wait for a run; returns its token."""
    guard = SuperExecAuthHttpInterceptor(
        master_secret=secret, protected_methods=frozenset({"/flwr.proto.Runtime/AcquireTask"})
    )
    asks = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
    interceptors: list[ProtobufClientInterceptor] = [
        RuntimeVersionHttpInterceptor(component_name="SuperExec"),
        guard,
    ]
    with RuntimeHttpClient.from_server_address(superlink, False, authority, interceptors) as client:
        while True:
            try:
                given = client.AcquireTask(asks)
            except httpx.TransportError:
                time.sleep(_PAUSE_S)
                continue
            if given.HasField("task") and given.token:
                return str(given.token)
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
