"""What the coordinator tells its own SuperLink: which nodes there are, to start a run, to stop it, how it goes.

Invariant: names of Flower 1.41 that aren't public are used here alone; `flwr` on the command line does the same, but
takes seconds for each question.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_public_key
from flwr.app import UserConfig
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes

from common.errors import RunError
from common.provision.code import installed_code


class Control:
    """A connection to the control interface of the SuperLink on this machine."""

    def __init__(self, superlink: str, authority: Path) -> None:
        self._client = ControlHttpClient.from_server_address(
            superlink, False, authority.read_bytes(), [RuntimeVersionHttpInterceptor(component_name="flwr")]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def register(self, name: str, node_key: str) -> int:
        """Let a node in, by its public key; returns its id."""
        key = load_ssh_public_key(node_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise RunError("a node's key isn't ECDSA P-384", where=f"site '{name}'")
        try:
            response = self._client.RegisterNode(
                RegisterNodeRequest(public_key=public_key_to_bytes(key), name=name)
            )
        except httpx.HTTPError as fault:
            raise self._refused("register a node", fault) from None
        return int(response.node_id)

    def unregister(self, node_id: int) -> None:
        """Put a node out."""
        try:
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))
        except httpx.HTTPError as fault:
            raise self._refused("put a node out", fault) from None

    def start(self, run_config: UserConfig) -> int:
        """Start a run of the installed apps; returns its id."""
        bundle = make_bundle(run_config)
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        try:
            told = self._client.StartRun(StartRunRequest(fab=fab_to_proto(fab)))
        except httpx.HTTPError as fault:
            raise self._refused("start a run", fault) from None
        if not told.HasField("run_id"):
            raise RunError("Flower started no run", where="SuperLink", why=told.note)
        return int(told.run_id)

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        try:
            self._client.StopRun(StopRunRequest(run_id=run_id))
        except httpx.HTTPError as fault:
            raise self._refused("stop a run", fault) from None

    def status(self, run_id: int) -> str:
        """`pending`, `running`, `finished:completed` and the like."""
        try:
            runs = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict
        except httpx.HTTPError as fault:
            raise self._refused("tell of a run", fault) from None
        status = runs[run_id].status
        return f"{status.status}:{status.sub_status}" if status.sub_status else str(status.status)

    def _refused(self, what: str, fault: httpx.HTTPError) -> RunError:
        reason = (
            fault.response.text[:300] if isinstance(fault, httpx.HTTPStatusError) else type(fault).__name__
        )
        return RunError(f"the SuperLink didn't {what}", where="SuperLink", why=reason)


def make_bundle(run_config: UserConfig) -> bytes:
    """The Flower bundle of the installed code."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in run_config.items())
    project = (
        '[project]\nname = "hansa"\nversion = "0.1.0"\ndescription = ""\nlicense = "Apache-2.0"\n'
        'dependencies = []\n\n[tool.flwr.app]\npublisher = "hansa"\nfab-include = ["**/*.py"]\n\n'
        '[tool.flwr.app.components]\nserverapp = "server.app:app"\nclientapp = "clients.app:app"\n\n'
        f"[tool.flwr.app.config]\n{settings}\n"
    )
    return build_fab_from_files({"pyproject.toml": project.encode(), **installed_code()})[0]
