"""What `he+masked` costs beside NVFlare-style CKKS (TenSEAL, degree 8192, [60, 40, 40], symmetric, one flat vector).

Both sides run the whole way of one update of 10 sites: encrypt at a site, parse and add at the coordinator, decrypt
at a site; ours with masks, container and signature. Ratios are ours over the baseline's. Each side runs in a fresh
process, whose memory is what it grows by at its peak.
Run it by `hansa bench protections`.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import tenseal as ts

from clients.secagg.site import SecaggSite
from clients.training.noop import NoopSite
from common.files import read_lines
from common.protocol import wire
from common.secagg.protocol import Attempt
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.secagg.sum_worker import SumWorker
from server.secagg.uploads import SecureSum, SumTerms
from simulations.benchmarks.support.protections_league import memory_rows, worth_rows
from simulations.engines.engine import run_league

_SITES = 10
_TIMES = 5
Costs = dict[str, float]


def run(quick: bool) -> dict[str, Any]:
    """Costs at 1 M parameters, and 5 M in full; memory by sites; the model's worth in full; a round with training."""
    rows: list[dict[str, Any]] = []
    ratios: dict[str, float] = {}
    for size in [1_000_000] if quick else [1_000_000, 5_000_000]:
        ours, theirs = _apart(_ours, size), _apart(_ckks, size)
        rows += [{"protection": "he+masked", "parameters": size, **ours}]
        rows += [{"protection": "ckks flat", "parameters": size, **theirs}]
        if not quick:
            rows += [
                {"protection": "ckks per tensor (43)", "parameters": size, **_apart(_ckks_per_tensor, size)}
            ]
        for name in ("upload", "download", "client_cpu", "coordinator_cpu", "memory"):
            ratios[name] = round(max(ratios.get(name, 0.0), ours[name] / theirs[name]), 4)
        ratios["upload_over_float32"] = round(ours["upload"] / (4 * size), 4)
    cohorts = (10, 64) if quick else (10, 32, 64)
    flat, ratios["coordinator_memory_by_sites"] = memory_rows(200_000 if quick else 1_000_000, cohorts)
    rows += flat
    if not quick:
        worth, apart = worth_rows()
        rows, ratios = rows + worth, ratios | apart
    plain, protected = _round_s("plain", quick), _round_s("he+masked", quick)
    rows.append({"protection": "round", "parameters": 200_000, "plain_s": plain, "he+masked_s": protected})
    ratios["round_wall_over_plain"] = round(protected / plain, 3)
    return {"name": "protections", "rows": rows, "ratios": ratios}


def _cpu_s(work: Callable[[], Any]) -> tuple[float, Any]:
    began = time.process_time()
    result = work()
    return round(time.process_time() - began, 4), result


def _apart(work: Callable[[int], Costs], size: int) -> Costs:
    """The costs of a piece of work and its memory, measured in a process of its own."""
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_measured, (work, size))


def _measured(work: Callable[[int], Costs], size: int) -> Costs:
    before = _memory_mb("VmRSS")
    costs = work(size)
    grown = _memory_mb("VmHWM") - before + costs.pop("worker_memory", 0.0)
    return {**costs, "memory": round(grown, 1)}


def _memory_mb(field: str, pid: int | None = None) -> float:
    status = Path(f"/proc/{pid or 'self'}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith(f"{field}:")) / 1024


def _ours(size: int) -> Costs:
    config = load_config({"rounds": {"protection": "he+masked"}})
    names = [f"s{place:02d}" for place in range(_SITES)]
    update = np.random.default_rng(0).normal(0, 0.01, size).astype(np.float32)
    with tempfile.TemporaryDirectory(prefix="hansa-protections-") as root, SumWorker() as worker:
        sites = [SecaggSite(Path(root) / n, n, config, NoopSite(n, 0, size)) for n in names]
        bundles = {site.name: site.offer() for site in sites}
        wrapped = sites[0].answer("wrap", {"bundles": bundles, "epoch": 1})
        for site in sites:
            site.answer("install", {"bundles": bundles, "wrapped": wrapped})
        attempt = Attempt(1, os.urandom(16).hex(), dict.fromkeys(names, 1.0))
        layout = NoopSite("s00", 0, size).layout()
        client, uploads = [], []
        for site in sites[:_TIMES]:
            spent, blob = _cpu_s(lambda site=site: site.protect(update, attempt))  # type: ignore[misc]
            client.append(spent)
            uploads.append(wire.pack(wire.Header("r"), vector=np.frombuffer(blob, np.uint8)))
        worker.start(0)
        before = _memory_mb("VmRSS", worker.pid)
        for _ in range(2):  # a first round, and one that finds its memory as all later ones do
            total = SecureSum(SumTerms(config.rounds, layout, config.digest(), bundles), attempt, worker)
            coordinator = []
            for place, name in enumerate(names[:_TIMES]):
                began = _worker_cpu_s(worker)
                spent, _ = _cpu_s(lambda: _fold(total, place, name, uploads[place]))  # noqa: B023
                coordinator.append(spent + _worker_cpu_s(worker) - began)
        parts = total.saved()
        peak = _memory_mb("VmHWM", worker.pid)
        key = sites[0].he_key(1)
        opened, _ = _cpu_s(lambda: key.decrypt(parts, total.count, where="bench"))
    return {
        "upload": float(len(blob)), "download": float(sum(map(len, parts))), "client_cpu": median(client),
        "coordinator_cpu": round(median(coordinator), 4), "decrypt_cpu": opened,
        "worker_memory": max(0.0, peak - before),
    }  # fmt: skip


def _worker_cpu_s(worker: SumWorker) -> float:
    """Processor time of the coordinator's worker so far, to the nanosecond."""
    return int(Path(f"/proc/{worker.pid}/schedstat").read_text().split()[0]) / 1e9


def _fold(total: SecureSum, place: int, name: str, content: Any) -> None:
    total.fold(place, total.check(content, site=name, where="bench"), 1.0)


def _ckks(size: int, tensors: int = 1) -> Costs:
    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        8192,
        coeff_mod_bit_sizes=[60, 40, 40],
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = 2**40
    update = np.random.default_rng(0).normal(0, 0.01, size)
    parts = np.array_split(update, tensors)
    client, coordinator = [], []
    total: list[Any] = []
    with _quiet():
        for _ in range(_TIMES):
            spent, blobs = _cpu_s(
                lambda: [ts.ckks_vector(context, part.tolist()).serialize() for part in parts]
            )
            folded, total = _cpu_s(lambda blobs=blobs, total=total: _add_ckks(context, total, blobs))  # type: ignore[misc]
            client.append(spent)
            coordinator.append(folded)
    opened, _ = _cpu_s(lambda: [part.decrypt() for part in total])
    return {
        "upload": float(sum(map(len, blobs))), "download": float(sum(len(part.serialize()) for part in total)),
        "client_cpu": median(client), "coordinator_cpu": median(coordinator[1:]), "decrypt_cpu": opened,
    }  # fmt: skip


def _ckks_per_tensor(size: int) -> Costs:
    return _ckks(size, tensors=43)


def _add_ckks(context: Any, total: list[Any], blobs: list[bytes]) -> list[Any]:
    parsed = [ts.ckks_vector_from(context, blob) for blob in blobs]
    return [total_part + part for total_part, part in zip(total, parsed, strict=True)] if total else parsed


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the standard streams: TenSEAL prints a warning for each long vector."""
    sys.stdout.flush()
    saved, nowhere = [os.dup(1), os.dup(2)], os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        for stream, copy in enumerate(saved, 1):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)


def _round_s(protection: str, quick: bool) -> float:
    """The least wall time of a round of ten sites that train."""
    with tempfile.TemporaryDirectory(prefix="hansa-protections-") as root:
        folder = RunFolder(Path(root))
        entries = [SiteEntry(f"s{place:02d}", f"S{place}", "none") for place in range(_SITES)]
        folder.create(
            load_config({"rounds": {"count": 2 if quick else 5, "protection": protection}}), entries
        )
        settings: dict[str, int | float | bool | str] = {
            "job": "noop", "noop-size": 200_000, "noop-steps": 350, "progress": "silent",
        }  # fmt: skip
        run_league(folder.root, "local", 1, settings)
        return min(float(line["seconds"]) for line in read_lines(folder.rounds_file))
