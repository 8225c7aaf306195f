"""The k-anonymity of a site's customers is told, and none of them is."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from clients.ingest import read_site_info
from clients.quality.anonymity import crowd_figures
from common.errors import InputError
from simulations.cli import main


def _shop(folder: Path, customers: list[str]) -> Path:
    (folder / "site.toml").write_text('name = "shop"\n[quality]\ncrowd = 4\n')
    (folder / "products.csv").write_text("item_id,title\ni,Bag\n")
    if customers:
        (folder / "customers.csv").write_text("user_id,age,postcode\n" + "\n".join(customers) + "\n")
    return folder


def _people(count: int) -> list[str]:
    draw = random.Random(3)
    return [
        f"u{n},{draw.randint(18, 80)},{draw.choice(['201', '202', '310'])}{draw.randint(100, 999)}"
        for n in range(count)
    ]


def test_one_who_stands_alone_is_counted_and_widening_hides_them(tmp_path: Path) -> None:
    shop = _shop(tmp_path, _people(400))
    found = crowd_figures(shop, read_site_info(shop))
    assert found["people"] == 400
    assert found["k_anonymity"] == 1
    assert found["k_widened"] >= 4
    assert found["people_kept"] >= 0.95


def test_a_person_counts_once_and_gaps_are_a_value_too(tmp_path: Path) -> None:
    rows = [*(f"u{n},30,1000" for n in range(6)), "u1,30,1000", *(f"v{n},," for n in range(5)), "w,999,1000"]
    shop = _shop(tmp_path, rows)
    found = crowd_figures(shop, read_site_info(shop))
    # An age of 999 is none, so w stands alone: no age, but a postcode.
    assert (found["people"], found["k_anonymity"]) == (12, 1)


def test_without_customers_there_is_no_figure(tmp_path: Path) -> None:
    shop = _shop(tmp_path, [])
    assert crowd_figures(shop, read_site_info(shop)) == {}
    (shop / "customers.csv").write_text("name\nEve\n")
    with pytest.raises(InputError, match="user_id"):
        crowd_figures(shop, read_site_info(shop))


def test_the_report_has_the_figures_and_nobody_in_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HANSA_CACHE", str(tmp_path / "cache"))
    shop = _shop(tmp_path, [*_people(60), "canary-77,33,CANARY99"])
    assert main(["quality", str(shop), "--out", str(tmp_path / "out"), "--quiet", "--format", "json"]) in (
        0,
        1,
    )
    assert json.loads(capfd.readouterr().out)["figures"]["k_anonymity"] == 1
    for file in (tmp_path / "out").iterdir():
        assert "CANARY" not in file.read_text().upper()
    assert "k-匿名" in (tmp_path / "out" / "quality.html").read_text()
