"""Hostile and broken sites: each bad reply is quarantined by name and reason, and the others go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Message, RecordDict

from clients.app import app as honest
from common.errors import QuorumError
from common.files import read_json, read_lines
from common.flower.simulation import COORDINATOR, RUN_ID
from common.protocol import wire
from common.settings.load import load_config
from common.storage.run_folder import RunFolder, SiteEntry
from server.app import app as coordinator
from simulations.engines.local import LocalGrid

SITES = ["amber", "birch", "cedar", "delta"]
SIZE = 50
Tamper = Callable[[RecordDict], None]


def _run(
    folder: Path, tamper: Tamper | None = None, *, bad: tuple[str, ...] = ("birch",), **rounds: object
) -> None:
    """A league over four sites, of which the bad ones' training replies are tampered with."""
    run = RunFolder(folder)
    config = load_config({"rounds": {"count": 2, "protection": "plain", **rounds}})
    run.create(config, [SiteEntry(name, name.title(), "nowhere") for name in SITES])

    def app(message: Message, context: Context) -> Message:
        reply = honest(message, context)
        if (
            message.metadata.message_type == wire.TRAIN
            and SITES[int(context.node_config["partition-id"])] in bad
        ):
            assert tamper is not None
            tamper(reply.content)
        return reply

    run_config = {"run-dir": str(folder), "job": "noop", "noop-size": SIZE, "progress": "silent"}
    grid = LocalGrid(app, len(SITES), run_config)
    coordinator(grid, Context(RUN_ID, COORDINATOR, {}, RecordDict(), run_config))


def _header(**changes: object) -> Tamper:
    def tamper(content: RecordDict) -> None:
        header = replace(wire.read_header(content, where="test"), **changes)
        content[wire.HEADER] = wire.pack(header)[wire.HEADER]

    return tamper


def _vector(vector: np.ndarray) -> Tamper:
    def tamper(content: RecordDict) -> None:
        content[wire.VECTOR] = ArrayRecord({wire.VECTOR: wire.encode_vector(vector)})

    return tamper


def _drop(name: str) -> Tamper:
    def tamper(content: RecordDict) -> None:
        del content[name]

    return tamper


def _broadcast(content: RecordDict) -> None:
    content[wire.VECTOR] = ArrayRecord({wire.VECTOR: Array("float32", (1,), "hansa.flat", bytes(4))})


def _flood(content: RecordDict) -> None:
    content[wire.METRICS] = wire.pack(wire.Header("r"), metrics={f"m{i}": 0.0 for i in range(600)})[
        wire.METRICS
    ]


NAN = np.full(SIZE, np.nan, dtype=np.float32)
CASES: dict[str, tuple[Tamper, str]] = {
    "nan": (_vector(NAN), "50 of 50 values are NaN or infinite"),
    "infinity": (_vector(np.full(SIZE, np.inf, dtype=np.float32)), "NaN or infinite"),
    "too-long": (_vector(np.zeros(SIZE + 1, dtype=np.float32)), "not 50 numbers"),
    "too-short": (_vector(np.zeros(SIZE - 1, dtype=np.float32)), "not 50 numbers"),
    "broadcast": (_broadcast, "not 50 numbers"),
    "wrong-dtype": (_vector(np.zeros(SIZE, dtype=np.uint8)), "not float32"),
    "huge-norm": (_vector(np.full(SIZE, 1e6, dtype=np.float32)), "above 1e+04"),
    "overflowing-norm": (_vector(np.full(SIZE, 1e30, dtype=np.float32)), "norm is inf"),
    "no-vector": (_drop(wire.VECTOR), "exactly one vector"),
    "no-header": (_drop(wire.HEADER), "no header"),
    "wrong-round": (_header(round=99), "belongs to round 99"),
    "wrong-run": (_header(run="other"), "other settings"),
    "wrong-layout": (_header(layout="other"), "another layout"),
    "wrong-protection": (_header(protection="masked"), "protection is 'masked'"),
    "another-site": (_header(site="amber"), "names another site, 'amber'"),
    "no-weight": (_header(plan={}), "states no weight"),
    "weight-nan": (_header(plan={"weight": float("nan")}), "outside (0"),
    "weight-huge": (_header(plan={"weight": 1e12}), "outside (0"),
    "weight-negative": (_header(plan={"weight": -1.0}), "outside (0"),
    "flood-of-figures": (_flood, "600 figures"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_bad_reply_is_quarantined_and_the_round_goes_on(case: str, tmp_path: Path) -> None:
    tamper, reason = CASES[case]
    _run(tmp_path, tamper)
    lines = read_lines(RunFolder(tmp_path).rounds_file)
    assert len(lines) == 2
    for line in lines:
        [entry] = line["quarantined"]
        assert entry["site"] == "birch"
        assert reason in entry["reason"]
        assert sorted(line["weights"]) == ["amber", "cedar", "delta"]
    assert (tmp_path / "release" / "model.safetensors").exists()


def test_the_result_is_that_of_the_good_sites_alone(tmp_path: Path) -> None:
    _run(tmp_path / "a", CASES["nan"][0])
    _run(tmp_path / "b", CASES["wrong-round"][0])
    one, other = ((tmp_path / run / "release" / "model.safetensors").read_bytes() for run in ("a", "b"))
    assert one == other


def test_a_figure_that_is_nan_counts_as_not_given(tmp_path: Path) -> None:
    def tamper(content: RecordDict) -> None:
        content[wire.METRICS] = wire.pack(wire.Header("r"), metrics={"train/loss": float("nan")})[
            wire.METRICS
        ]

    _run(tmp_path, tamper)
    for line in read_lines(RunFolder(tmp_path).rounds_file):
        assert line["quarantined"] == []
        assert line["sites"]["birch"] == {}


def test_fewer_good_sites_than_the_quorum_end_the_run_naming_each(tmp_path: Path) -> None:
    with pytest.raises(QuorumError) as caught:
        _run(tmp_path, CASES["nan"][0], bad=("birch", "cedar"), quorum=0.75)
    assert caught.value.exit_code == 5
    assert "2 of 4 sites took part, but the quorum is 3" in caught.value.what
    assert "'birch': 50 of 50 values are NaN" in caught.value.why
    assert "'cedar'" in caught.value.why
    assert "'amber'" not in caught.value.why
    assert read_json(tmp_path / "state" / "failure.json")["exit_code"] == 5


def test_after_the_fault_is_mended_the_run_resumes(tmp_path: Path) -> None:
    with pytest.raises(QuorumError):
        _run(tmp_path, CASES["nan"][0], bad=("birch", "cedar"), quorum=0.75)
    _run(tmp_path, bad=(), quorum=0.75)
    _run(tmp_path / "whole", bad=(), quorum=0.75)
    one, other = (
        (root / "release" / "model.safetensors").read_bytes() for root in (tmp_path, tmp_path / "whole")
    )
    assert one == other
    assert not (tmp_path / "state" / "failure.json").exists()
