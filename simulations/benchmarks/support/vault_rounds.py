"""What a vault costs a run: the start, which opens the site once in a process, and the rounds, which follow.

Invariant: each figure comes from fresh processes that do what a site's does: open the site (unlock the key, log and
open every object, take features that were encoded before), then train rounds one after another. Vault and folder run in
turns, and a pair's order changes from pair to pair. A row is the least of the processes, since other work on the
machine can only add; a ratio is vault / folder - 1 of the least, of CPU seconds unless its name says `wall`:

| ratio | vault / folder of |
|---|---|
| `round_overhead`, `round_overhead_wall` | one process's mean round, without its start |
| `run_overhead` | the start and as many mean rounds as a league has by default |
| `fresh_round_overhead` | the start and one mean round: the worst case, a process that is started for each round |

A round reads nothing from the vault: rows are in memory from the start. Under differential privacy it pays from the
ledger, which lies in the vault; those seconds (without training) are rows of their own.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from clients.dp import NoisyOutputs
from clients.ledger import open_ledger
from clients.ledger.rounds import paid_round, price_of_round
from clients.trainer import open_site
from common.settings.load import load_config

Spent = dict[str, tuple[float, float]]
"""What was done → CPU and wall seconds."""
_STEPS = {"start": "start of a run", "round": "training round", "ledger": "ledger of a private round"}


def runs(base: Path, sites: dict[str, Path], quick: bool) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Rows and ratios of the sites named `folder` and `vault`.

    Parameters
    ----------
    base : a folder for what the runs write.
    """
    pairs, rounds = (3, 2) if quick else (5, 3)
    for site in sites.values():
        open_site(site, load_config({}))  # encodes the features, once
    measured: dict[str, list[Spent]] = {name: [] for name in sites}
    for pair in range(pairs):
        for name in sorted(sites, reverse=bool(pair % 2)):
            measured[name].append(_apart(sites[name], base / f"run-{pair}-{name}", rounds))
    rows = [
        {
            "method": f"{words} from the {name}",
            "seconds": min(once[step][1] for once in spent),
            "cpu_seconds": min(once[step][0] for once in spent),
        }
        for step, words in _STEPS.items()
        for name, spent in measured.items()
    ]
    count = load_config({}).rounds.count
    return rows, {
        "round_overhead": _over(measured, lambda once: once["round"][0]),
        "round_overhead_wall": _over(measured, lambda once: once["round"][1]),
        "run_overhead": _over(measured, lambda once: once["start"][0] + count * once["round"][0]),
        "fresh_round_overhead": _over(measured, lambda once: once["start"][0] + once["round"][0]),
    }


def _over(measured: dict[str, list[Spent]], figure: Callable[[Spent], float]) -> float:
    return min(map(figure, measured["vault"])) / min(map(figure, measured["folder"])) - 1


def _apart(site: Path, out: Path, rounds: int) -> Spent:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(one_run, (site, out, rounds))


def one_run(folder: Path, out: Path, rounds: int) -> Spent:
    """Start a site in this process, train, and pay for as many private rounds; means of rounds."""
    torch.set_num_threads(1)  # as a site's process does
    config, began = load_config({}), _clock()
    site = open_site(folder, config)
    start, vector = _since(began), site.initial()
    began = _clock()
    for round_ in range(1, rounds + 1):
        vector = vector + site.train(vector, round_).update
    trained = _since(began)
    private, began = load_config({"privacy": {"mode": "user"}}), _clock()
    for round_ in range(1, rounds + 1):
        with open_ledger(folder, out) as ledger:
            outputs, charge = NoisyOutputs(out / "updates"), price_of_round(private, round_)
            paid_round(ledger, outputs, charge, vector, lambda: vector)
    paid = _since(began)
    return {
        "start": start,
        "round": (trained[0] / rounds, trained[1] / rounds),
        "ledger": (paid[0] / rounds, paid[1] / rounds),
    }


def _clock() -> tuple[float, float]:
    return time.process_time(), time.perf_counter()


def _since(began: tuple[float, float]) -> tuple[float, float]:
    reading = _clock()
    return reading[0] - began[0], reading[1] - began[1]
