"""The process that runs the coordinator's ServerApp: it waits for a run at the SuperLink and carries it out.

Invariants: the token of the run stays in memory (Flower's own way passes it as an argument); one process runs one run
and ends with it.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import httpx

import server.app  # noqa: F401 — the run doesn't wait for these imports
from common.flower.pace import quicken
from common.flower.serverapp import carry_out
from common.flower.tasks import Tasks
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
    carry_out(given.superlink, token, authority)


def await_run(superlink: str, secret: bytes, authority: bytes) -> str:
    """Wait for a run; returns its token."""
    with Tasks(superlink, "flwr-serverapp", secret, authority) as tasks:
        while True:
            try:
                token = tasks.take()
            except httpx.TransportError:
                token = ""
            if token:
                return token
            time.sleep(_PAUSE_S)


if __name__ == "__main__":
    main()
