"""Jobs for a fork server under test: `python -m tests.simulations.engines.forked DESCRIPTOR` knows these alone."""

from __future__ import annotations

import json
import os
import random
import secrets
import sys
import time
from multiprocessing.connection import Connection
from typing import Any

import numpy as np

from simulations.engines import forkserver


def look(pipe: Connection, facts: dict[str, Any]) -> None:
    """Tell what this process finds: chance of every kind that a site draws, and where it came from."""
    from clients.dp.noise.sources import SystemNoise, system_generator

    found = {
        "facts": facts,
        "pid": os.getpid(),
        "variable": os.environ.get("HANSA_TEST", ""),
        "threads": os.environ["OMP_NUM_THREADS"],
        "server_threads": len(os.listdir(f"/proc/{os.getppid()}/task")),
        "draws": [
            secrets.token_hex(8),
            random.random(),
            SystemNoise().whole(4, 1e6).tolist(),
            float(system_generator().random()),
            float(np.random.default_rng().random()),
        ],
    }
    pipe.send_bytes(json.dumps(found).encode())


def hang(pipe: Connection, facts: dict[str, Any]) -> None:
    """Be busy for longer than any test."""
    pipe.send_bytes(str(os.getpid()).encode())
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        sum(range(10_000))


def fail(pipe: Connection, facts: dict[str, Any]) -> None:
    """Fail."""
    raise ValueError("as asked for")


if __name__ == "__main__":
    jobs = {name: ("tests.simulations.engines.forked", name) for name in ("look", "hang", "fail")}
    forkserver.main(int(sys.argv[1]), jobs)
