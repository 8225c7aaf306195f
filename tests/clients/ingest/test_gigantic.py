"""Files made to fill the memory are refused before they do."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from clients.ingest import read_site
from common.errors import InputError


@pytest.mark.parametrize("name", ["products.csv", "products.jsonl"])
def test_a_line_of_a_gigabyte_is_refused_in_little_memory_and_time(tmp_path: Path, name: str) -> None:
    (tmp_path / "site.toml").write_text('name = "shop"\n')
    with (tmp_path / name).open("wb") as file:
        file.write(b"item_id,title\n" if name.endswith("csv") else b"")
        file.truncate(2**30)
    began = time.monotonic()
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="million letters"):
            read_site(tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 100 * 2**20
    assert time.monotonic() - began < 10
