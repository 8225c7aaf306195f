"""Hostile ciphertexts: the worker may break, the coordinator and the sum may not."""

from __future__ import annotations

import os
import random
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from common.crypto import he
from common.errors import WireError
from server.sum_worker import SumWorker

COUNT = 2 * he.DEGREE
ROOM_MB = 64


@pytest.fixture
def worker() -> Iterator[SumWorker]:
    with SumWorker() as made:
        made.start(COUNT)
        yield made


def _hostile(good: list[bytes], chance: random.Random) -> list[bytes]:
    """One part of an upload made bad; its signature is thought to be right, as an insider's would be."""
    bad, place = list(good), chance.randrange(len(good))
    part = bytearray(good[place])
    kind = chance.randrange(8)
    if kind == 0:
        part = part[: chance.randrange(len(part))]
    elif kind == 1:
        part[chance.randrange(120)] ^= 1 << chance.randrange(8)
    elif kind == 2:
        for _ in range(chance.randrange(1, 50)):
            part[chance.randrange(len(part))] ^= 1 << chance.randrange(8)
    elif kind == 3:  # forged sizes in the header and in SEAL's own fields
        at = chance.randrange(8, 100)
        part[at : at + 8] = chance.choice([2**63, 2**40, 2**31, 0, 2**64 - 1]).to_bytes(8, "little")
    elif kind == 4:  # says that it is compressed, by each method that there may be
        part[5] = chance.randrange(256)
    elif kind == 5:
        part = bytearray(chance.randbytes(chance.choice([0, 4, 13, 31_900, 33_000])))
    elif kind == 6:  # right header, right length, random body
        part[16:] = chance.randbytes(len(part) - 16)
    else:
        cut = chance.randrange(len(part))
        part = part[:cut] + bytearray(good[place - 1])[cut:]
    bad[place] = bytes(part)
    return bad


def _attack(worker: SumWorker, tries: int, seed: int) -> int:
    """Try; return how many uploads were refused. The sum of what was folded before stays exact."""
    key = he.Key(he.Scheme())
    words = np.arange(COUNT, dtype=np.uint64)
    good, chance = key.encrypt(words), random.Random(seed)
    for _ in range(2):
        worker.parse(good, where="site 'amber'")
        worker.fold()
    assert worker.pid is not None
    start = psutil.Process(worker.pid).memory_info().rss
    named: list[str] = []
    for _ in range(tries):
        try:
            worker.parse(_hostile(good, chance), where="site 'birch'")
        except WireError as fault:
            named.append(fault.where)
    assert set(named) == {"site 'birch'"}
    assert worker.pid is not None
    status = Path(f"/proc/{worker.pid}/status").read_text()
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak / 1024 - start / 2**20 < ROOM_MB
    assert key.decrypt(worker.saved(), COUNT, where="t").tolist() == (2 * words).tolist()
    return len(named)


def test_hostile_ciphertexts_are_refused_and_the_sum_stays(worker: SumWorker) -> None:
    assert _attack(worker, 100, 1) > 50  # flips of a body decrypt to noise: the signature is what stops those


@pytest.mark.slow
def test_five_thousand_hostile_ciphertexts(worker: SumWorker) -> None:
    assert _attack(worker, 5000, 2) > 2500


def test_a_worker_killed_over_an_upload_costs_that_upload_only(worker: SumWorker) -> None:
    key, words = he.Key(he.Scheme()), np.full(COUNT, 7, dtype=np.uint64)
    worker.parse(key.encrypt(words), where="site 'amber'")
    worker.fold()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(WireError, match="broke the process"):
        worker.parse(key.encrypt(words), where="site 'birch'")
    worker.parse(key.encrypt(words), where="site 'cedar'")
    worker.fold()
    assert key.decrypt(worker.saved(), COUNT, where="t").tolist() == (2 * words).tolist()


def test_the_worker_has_little_memory(worker: SumWorker) -> None:
    assert worker.pid is not None
    most, _ = psutil.Process(worker.pid).rlimit(psutil.RLIMIT_AS)
    assert most < psutil.Process(worker.pid).memory_info().vms + (ROOM_MB << 20)
