"""No bytes make a parser fail otherwise than for people: thousands drawn by Hypothesis, and minutes of Atheris."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from common.files import PROJECT
from tests.property.parsers import PARSERS

FUZZ_SECONDS = int(os.environ.get("HANSA_FUZZ_SECONDS", "300"))
_QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]


def mutated(seed: bytes, changes: list[tuple[int, int, bytes]]) -> bytes:
    """A seed with pieces cut out and others put in."""
    for at, cut, put in changes:
        place = at % (len(seed) + 1)
        seed = seed[:place] + put + seed[place + cut :]
    return seed


def hostile(name: str) -> st.SearchStrategy[bytes]:
    """Bytes from nowhere, and bytes that were a parser's own input once."""
    change = st.tuples(st.integers(0, 8000), st.integers(0, 40), st.binary(max_size=6))
    near = st.builds(mutated, st.sampled_from(PARSERS[name].seeds), st.lists(change, min_size=1, max_size=4))
    return near | st.binary(max_size=120)


@pytest.mark.parametrize("name", PARSERS)
def test_some_bytes_are_parsed_or_refused(name: str) -> None:
    @settings(max_examples=60, deadline=None, suppress_health_check=_QUIET)
    @given(hostile(name))
    def law(data: bytes) -> None:
        PARSERS[name].try_on(data)

    for seed in PARSERS[name].seeds:
        PARSERS[name].try_on(seed)
    law()


@pytest.mark.slow
@pytest.mark.parametrize("name", PARSERS)
def test_ten_thousand_bytes_are_parsed_or_refused(name: str) -> None:
    @settings(max_examples=10_000, deadline=None, suppress_health_check=_QUIET)
    @given(hostile(name))
    def law(data: bytes) -> None:
        PARSERS[name].try_on(data)

    law()


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="Atheris isn't installed: its wheels are for Linux")
@pytest.mark.parametrize("name", PARSERS)
def test_minutes_of_fuzzing_find_nothing(name: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.property.fuzz", name, str(FUZZ_SECONDS), str(tmp_path / "corpus")]
    done = subprocess.run(
        command, capture_output=True, text=True, errors="replace", cwd=PROJECT,
        env=os.environ | {"PYTHONPATH": str(PROJECT)}, timeout=FUZZ_SECONDS + 240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    runs = [line for line in done.stderr.splitlines() if "number_of_executed_units" in line]
    assert int(runs[0].rpartition(":")[2]) > 100, "it ran too seldom to say anything"


def test_every_parser_takes_its_own_seeds_apart() -> None:
    draw = random.Random(1)
    for parser in PARSERS.values():
        for seed in parser.seeds:
            for _ in range(20):
                parser.try_on(seed[: draw.randrange(len(seed) + 1)])
