"""The coordinator's memory for 10, 100 and 1,000 replies: one running sum, so it must not grow with the
sites.

Each league runs in a process of its own, whose peak resident memory the operating system reports. The process holds the
coordinator and, one at a time, the sites; its memory would grow with their number if the coordinator kept replies.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from typing import Any

from common.errors import RunError
from common.files import PROJECT

_PROGRAM = """
import json, resource, sys
from pathlib import Path
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from simulations.engines.engine import run_league

root, sites, size = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
entries = [SiteEntry(f"site-{place:04d}", f"Site {place}", "none") for place in range(sites)]
RunFolder(root).create(load_config({"rounds": {"count": 2, "protection": "plain"}}), entries)
run_league(root, "local", 1, {"job": "noop", "noop-size": size, "progress": "silent"})
unit = 1 if sys.platform == "darwin" else 1024
print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit))
"""


def run(quick: bool) -> dict[str, Any]:
    """Peak memory of a league of two rounds by number of sites; quick takes a fifth of the parameters."""
    size = 200_000 if quick else 1_000_000
    peaks = {sites: _peak_bytes(sites, size) for sites in (10, 100, 1000)}
    rows = [
        {
            "sites": sites,
            "parameters": size,
            "peak_mb": round(peak / 1e6, 1),
            "replies_mb": round(sites * size * 4 / 1e6, 1),
        }
        for sites, peak in peaks.items()
    ]
    growth = peaks[1000] / peaks[10]
    return {"name": "coordinator_memory", "rows": rows, "ratios": {"peak_1000_over_10": round(growth, 3)}}


def _peak_bytes(sites: int, size: int) -> int:
    environment = {**os.environ, "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory(prefix="hansa-memory-") as root:
        completed = subprocess.run(  # noqa: S603 — our own program, no shell
            [sys.executable, "-c", _PROGRAM, root, str(sites), str(size)],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    if completed.returncode != 0:
        raise RunError("the measured league failed", where=f"{sites} sites", why=completed.stderr[-500:])
    return int(json.loads(completed.stdout))
