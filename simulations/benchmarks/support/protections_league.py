"""Protections in a whole league: the coordinator's memory by the number of sites, and the trained model's quality.

Part of `hansa bench protections`. Memory is the growth of the coordinator and of the summing process while all uploads
of a round arrive; the uploads are one site's ciphertexts under different signatures, since their content makes no
difference. Quality is the members' NDCG@20 on the test window, for the embedded league's released model.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from common.crypto.container import sign_container
from common.he.schemes import scheme_of
from common.protocol import wire
from common.secagg.masks import SLICE_BYTES
from common.secagg.protocol import Attempt, upload_facts, values_of
from common.settings.load import load_config
from common.storage.run_folder import RunFolder
from server.secagg.sum_worker import SumWorker
from server.secagg.uploads import SecureSum, SumTerms
from simulations.engines.engine import run_league
from simulations.runs.summary import macro_metrics, site_results
from simulations.setup.create import create_run, plan_config
from simulations.setup.options import Setting, SimulateOptions

_WARM = 4
_WORTH: dict[str, dict[str, Setting]] = {
    "plain, floats": {"privacy.mode": "off", "rounds.protection": "plain"},
    "plain, whole numbers": {"privacy.mode": "off", "rounds.protection": "plain", "rounds.quantise": True},
    "he+masked": {"privacy.mode": "off", "rounds.protection": "he+masked"},
}


def memory_rows(size: int, cohorts: tuple[int, ...]) -> tuple[list[dict[str, Any]], float]:
    """A row for each cohort, and the growth of the memory from the smallest to the largest."""
    rows: list[dict[str, Any]] = []
    for sites in cohorts:
        rows.append({"protection": "he+masked", "parameters": size, "sites": sites, **_memory(size, sites)})
    grown = [row["worker_memory_mb"] + row["parent_memory_mb"] for row in rows]
    return rows, round(grown[-1] / grown[0], 3)


def _memory(size: int, sites: int) -> dict[str, float]:
    config = load_config({"rounds": {"protection": "he+masked"}})
    rounds, layout = config.rounds, wire.Layout.of({"all": (size,)})
    names = [f"s{place:04d}" for place in range(sites)]
    keys = {name: Ed25519PrivateKey.generate() for name in names}
    bundles = {name: {"ed25519": key.public_key().public_bytes_raw().hex()} for name, key in keys.items()}
    attempt = Attempt(1, os.urandom(16).hex(), dict.fromkeys(names, 1.0))
    count = values_of(rounds, size)
    parts = scheme_of(rounds).key().encrypt(np.zeros(count, dtype=np.uint64))
    with SumWorker() as worker:
        worker.start(0)
        before = _resident_mb(worker.pid, "VmRSS")
        total = SecureSum(SumTerms(rounds, layout, config.digest(), bundles), attempt, worker)
        own = 0.0
        for place, name in enumerate(names):
            if place == _WARM:  # what a process takes once is no matter of sites
                own = _resident_mb(None, "VmRSS")
            facts = upload_facts(config.digest(), rounds, layout, attempt, name)
            shares = [bytes(SLICE_BYTES * sites)] * sites
            data = np.frombuffer(sign_container(facts, [*parts, *shares], keys[name]), np.uint8)
            content = wire.pack(wire.Header("r"), vector=data)
            total.fold(place, total.check(content, site=name, where="bench"), 1.0)
        grown = _resident_mb(worker.pid, "VmHWM") - before
        return {
            "worker_memory_mb": round(grown, 1),
            "parent_memory_mb": round(max(0.0, _resident_mb(None, "VmRSS") - own), 1),
        }


def worth_rows() -> tuple[list[dict[str, Any]], dict[str, float]]:
    """NDCG@20 of the released model under each way of summing, and the part by which each differs from floats."""
    torch.set_num_threads(1)
    ndcg = {name: _ndcg(settings) for name, settings in _WORTH.items()}
    floats = ndcg["plain, floats"]
    rows = [{"protection": name, "ndcg@20": round(value, 5)} for name, value in ndcg.items()]
    apart = {
        "ndcg_apart_quantised": round(abs(ndcg["plain, whole numbers"] / floats - 1), 5),
        "ndcg_apart_he+masked": round(abs(ndcg["he+masked"] / floats - 1), 5),
    }
    return rows, apart


def _ndcg(settings: dict[str, Setting]) -> float:
    with tempfile.TemporaryDirectory(prefix="hansa-protections-") as root:
        options = SimulateOptions(run=Path(root) / "run", overrides=settings, seed=0, quiet=True)
        folder, _ = create_run(options, plan_config(options))
        run_league(folder.root, "local", 1, {"progress": "silent"})
        return _macro(folder)


def _macro(folder: RunFolder) -> float:
    members = [site for site in folder.sites() if not site.held_out]
    metrics = macro_metrics({site.name: site_results(folder, site) for site in members})
    return float(metrics["federated"]["ndcg@20"]["macro"])


def _resident_mb(pid: int | None, field: str) -> float:
    status = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:")) / 1024
