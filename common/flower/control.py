"""Flower's Control interface: a SuperLink is told which nodes there are, to start a run, to stop it, how it goes.

`flwr` on the command line does the same, but takes seconds for each question.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

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


class ControlClient:
    """A connection to a SuperLink; each method raises `httpx.HTTPError` where it refuses or can't be reached.

    Parameters
    ----------
    authority : PEM of who signed the SuperLink's certificate.
    """

    def __init__(self, superlink: str, authority: bytes) -> None:
        self._client = ControlHttpClient.from_server_address(
            superlink, False, authority, [RuntimeVersionHttpInterceptor(component_name="flwr")]
        )

    def close(self) -> None:
        """End it."""
        self._client.close()

    def register(self, name: str, public_key: bytes) -> int:
        """Let a node in; returns its id."""
        return int(self._client.RegisterNode(RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def unregister(self, node_id: int) -> None:
        """Put a node out."""
        self._client.UnregisterNode(UnregisterNodeRequest(node_id=node_id))

    def start(self, bundle: bytes) -> tuple[int | None, str]:
        """Start a run of a bundle; its id, or None and what Flower says of it."""
        fab = Fab(hashlib.sha256(bundle).hexdigest(), bundle, {})
        response = self._client.StartRun(StartRunRequest(fab=fab_to_proto(fab)))
        return (int(response.run_id) if response.HasField("run_id") else None), str(response.note)

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        self._client.StopRun(StopRunRequest(run_id=run_id))

    def status(self, run_id: int) -> tuple[str, str]:
        """`pending`, `running` or `finished`, and of the latter how."""
        status = self._client.ListRuns(ListRunsRequest(run_id=run_id)).run_dict[run_id].status
        return str(status.status), str(status.sub_status)


def bundle_of(files: Mapping[str, bytes]) -> bytes:
    """A Flower bundle of these files, its `pyproject.toml` among them."""
    return build_fab_from_files(dict(files))[0]
