"""The ingest benchmark runs through on the Chinese reviews, and ten kills change nothing."""

from __future__ import annotations

import pytest

from simulations.benchmarks import ingest


@pytest.mark.slow
@pytest.mark.skipif(not ingest.DATA.is_dir(), reason="the real data aren't beside the project")
def test_ten_kills_leave_the_same_vault_and_the_second_run_reads_nothing() -> None:
    found = ingest.run(quick=True)
    assert found["ratios"]["zh_reviews_same_after_kills"] == 1
    assert found["ratios"]["zh_reviews_second_speedup"] > 20
    (row,) = found["rows"]
    assert row["rows"] > 50_000
    assert row["killed_at_work"] >= 5
    assert row["peak_mb"] < 700
