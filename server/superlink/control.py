"""What the coordinator tells its own SuperLink: which nodes there are, to start a run, to stop it, how it goes."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Self

import httpx
from flwr.app import UserConfig

from common.errors import RunError
from common.flower.control import ControlClient, bundle_of
from common.flower.fleet import node_key_bytes
from common.flower.project import HANSA, project_file
from common.provision.code import installed_code


class Control:
    """A connection to the control interface of the SuperLink on this machine."""

    def __init__(self, superlink: str, authority: Path) -> None:
        self._client = ControlClient(superlink, authority.read_bytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def register(self, name: str, node_key: str) -> int:
        """Let a node in, by its public key; returns its id."""
        try:
            key = node_key_bytes(node_key)
        except TypeError:
            raise RunError("a node's key isn't ECDSA P-384", where=f"site '{name}'") from None
        try:
            return self._client.register(name, key)
        except httpx.HTTPError as fault:
            raise self._refused("register a node", fault) from None

    def unregister(self, node_id: int) -> None:
        """Put a node out."""
        try:
            self._client.unregister(node_id)
        except httpx.HTTPError as fault:
            raise self._refused("put a node out", fault) from None

    def start(self, run_config: UserConfig) -> int:
        """Start a run of the installed apps; returns its id."""
        bundle = make_bundle(run_config)
        try:
            run_id, note = self._client.start(bundle)
        except httpx.HTTPError as fault:
            raise self._refused("start a run", fault) from None
        if run_id is None:
            raise RunError("Flower started no run", where="SuperLink", why=note)
        return run_id

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        try:
            self._client.stop(run_id)
        except httpx.HTTPError as fault:
            raise self._refused("stop a run", fault) from None

    def status(self, run_id: int) -> str:
        """`pending`, `running`, `finished:completed` and the like."""
        try:
            status, how = self._client.status(run_id)
        except httpx.HTTPError as fault:
            raise self._refused("tell of a run", fault) from None
        return f"{status}:{how}" if how else status

    def _refused(self, what: str, fault: httpx.HTTPError) -> RunError:
        reason = (
            fault.response.text[:300] if isinstance(fault, httpx.HTTPStatusError) else type(fault).__name__
        )
        return RunError(f"the SuperLink didn't {what}", where="SuperLink", why=reason)


def make_bundle(run_config: UserConfig) -> bytes:
    """The Flower bundle of the installed code."""
    return bundle_of({"pyproject.toml": project_file(HANSA, run_config).encode(), **installed_code()})
