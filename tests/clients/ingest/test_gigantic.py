"""Files made to fill the memory are refused before they do, and long before they are read to their end."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from clients.ingest import read_site
from common.errors import InputError


@pytest.mark.parametrize("name", ["products.csv", "products.jsonl"])
def test_a_line_of_a_gigabyte_is_refused_in_little_memory_after_little_reading(
    tmp_path: Path, name: str
) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    with (tmp_path / name).open("wb") as file:
        file.write(b"item_id,title\n" if name.endswith("csv") else b"")
        file.truncate(2**30)
    before = _bytes_read()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="million letters"):
            read_site(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20
    assert _bytes_read() - before < 32 * 2**20


def _bytes_read() -> int:
    """What this process has read so far, by the kernel's count."""
    counts = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(counts["rchar"])
