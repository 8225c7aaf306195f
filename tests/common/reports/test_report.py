"""A report tells what the run found, in both languages, and no shop can make it tell anything else."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from common.errors import RunError
from common.reports import model_card, read_story, write_report
from common.reports.figures import Bar, Label, bar_chart, ticks
from common.reports.html import size
from common.settings.config import LeagueConfig
from tests.common.reports.sample_run import DrawnPictures, write_sample_run

HOSTILE = '<script>alert("x")</script>"onerror=alert(1) <img src=x onerror=alert(2)>'


class _Page(HTMLParser):
    """Counts the tags, event handlers and addresses of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.handlers: list[str] = []
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.handlers += [name for name, _ in attrs if name.startswith("on")]
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]


class _HostileShop(DrawnPictures):
    def title(self, site: str, item_id: str) -> str | None:
        return HOSTILE

    def picture(self, site: str, item_id: str) -> bytes | None:
        return b"<svg onload=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture
def fresh(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "run"))


def test_the_headline_says_for_how_many_joining_paid_in_both_languages(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    assert "Joining paid for 3 of 5 merchants." in page
    assert "5 家商家中，有 3 家加入后确有收益。" in page
    assert "29% better after joining" in page  # 0.121 against 0.094


def test_every_text_is_there_in_both_languages(run: Path) -> None:
    page = write_report(run, None).read_text(encoding="utf-8")
    body = page[page.index("</style>") :]
    assert body.count('class="t-en" lang="en"') == body.count('class="t-zh" lang="zh"') > 50


def test_the_page_loads_nothing_from_elsewhere(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    addresses = _Page(page).addresses
    assert addresses
    assert all(address.startswith("data:image/jpeg;base64,") for address in addresses)
    assert not re.search(r"url\(|@import|https?://", page)


def test_a_hostile_shop_adds_no_tag_no_handler_and_no_picture(fresh: Path) -> None:
    calm = _Page(write_report(fresh, None).read_text(encoding="utf-8"))
    league = json.loads((fresh / "league.json").read_text(encoding="utf-8"))
    for site in league:
        site |= {"title": HOSTILE, "region": HOSTILE, "language": HOSTILE}
    (fresh / "league.json").write_text(json.dumps(league), encoding="utf-8")
    page = write_report(fresh, _HostileShop()).read_text(encoding="utf-8")
    stormy = _Page(page)
    assert stormy.tags == calm.tags
    assert stormy.handlers == stormy.addresses == []
    assert "&lt;script&gt;alert" in page


def test_user_ids_stay_out_of_the_report(run: Path) -> None:
    assert "user-0" not in write_report(run, DrawnPictures()).read_text(encoding="utf-8")


@pytest.mark.parametrize("missing", ["rounds.jsonl", "metrics.json", "details.json", "sites"])
def test_a_missing_part_is_left_out(fresh: Path, missing: str) -> None:
    path = fresh / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = write_report(fresh, DrawnPictures()).read_text(encoding="utf-8")
    sections = {
        "metrics.json": "compare",
        "details.json": "merchants",
        "rounds.jsonl": "learning",
        "sites": "samples",
    }
    assert f'id="{sections[missing]}"' not in page
    assert sum(f'id="{name}"' in page for name in sections.values()) == 3


def test_figures_of_another_shape_are_left_out_not_shown(fresh: Path) -> None:
    details = {"worth": [{"site": "alder", "gain_local": "much"}, 3], "intervals": 7, "zero_shot": [1], "ablation": "x",
               "calibration": {"predicted": 1}}  # fmt: skip
    (fresh / "details.json").write_text(json.dumps(details), encoding="utf-8")
    (fresh / "metrics.json").write_text(
        '{"local": {"ndcg@20": {"macro": NaN}}, "federated": []}', encoding="utf-8"
    )
    page = write_report(fresh, None).read_text(encoding="utf-8")
    assert "nan" not in page.lower().replace("finan", "")
    assert 'id="compare"' not in page
    assert "5 merchants trained one model together." in page


def test_without_a_run_there_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(RunError):
        write_report(tmp_path, None)
    assert not list(tmp_path.iterdir())


def test_equal_runs_give_equal_reports(fresh: Path) -> None:
    first = write_report(fresh, DrawnPictures()).read_bytes()
    assert write_report(fresh, DrawnPictures()).read_bytes() == first


@pytest.mark.parametrize(
    ("gain", "low", "high", "verdict"),
    [(0.2, 0.1, 0.3, "paid"), (0.2, -0.1, 0.5, "no difference"), (-0.2, -0.3, -0.1, "did not pay"),
     (0.2, None, None, "no difference")],
)  # fmt: skip
def test_the_verdict_follows_from_the_interval(
    fresh: Path, gain: float, low: float | None, high: float | None, verdict: str
) -> None:
    row = {"site": "alder", "gain_local": gain, "low": low, "high": high}
    (fresh / "details.json").write_text(json.dumps({"worth": [row]}), encoding="utf-8")
    assert [worth.verdict for worth in read_story(fresh).worth] == [verdict]


def test_the_headline_does_not_hide_a_loss(fresh: Path) -> None:
    metrics = {"local": {"ndcg@20": {"macro": 0.2}}, "fine_tuned": {"ndcg@20": {"macro": 0.15}}}
    (fresh / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    page = write_report(fresh, None).read_text(encoding="utf-8")
    assert "25% worse after joining" in page
    assert "下降 25%" in page


def test_the_card_states_what_protects_and_what_does_not(run: Path) -> None:
    card = model_card(run)
    assert "Differential privacy: off" in card
    assert "`he+masked`: the coordinator saw ciphertexts only" in card
    assert LeagueConfig(name="harbour league").digest() in card
    assert (
        "| Trained alone: the same model, trained on this merchant's data only; under the same privacy"
        in card
    )


def test_a_hostile_title_stays_inside_its_cell_of_the_card(fresh: Path) -> None:
    league = json.loads((fresh / "league.json").read_text(encoding="utf-8"))
    league[0]["title"] = "a | b\n# owned <script> [x](y)"
    (fresh / "league.json").write_text(json.dumps(league), encoding="utf-8")
    card = model_card(fresh)
    assert "# owned" not in card
    assert "<script" not in card
    row = next(line for line in card.splitlines() if "owned" in line)
    assert row.count("|") == 5


def test_the_longest_bar_is_the_largest_value() -> None:
    label = Label("x", "x")
    drawn = bar_chart([Bar(label, 0.2, "plain"), Bar(label, 0.4, "joined")], label)
    widths = [float(width) for width in re.findall(r'<rect[^>]* width="([\d.]+)"', drawn)]
    assert widths[1] == pytest.approx(2 * widths[0], rel=1e-3)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (-0.14, 0.44), (1e-6, 3e-6), (0, 4000)])
def test_ticks_lie_within_and_are_not_too_many(low: float, high: float) -> None:
    found = ticks(low, high)
    assert 2 <= len(found) <= 7
    assert all(low - 1e-9 <= tick <= high * (1 + 1e-9) for tick in found)


def test_sizes_are_read_by_people() -> None:
    assert [size(n) for n in (12, 999, 1500, 185_000, 3_930_000)] == [
        "12 B",
        "999 B",
        "1.5 kB",
        "185 kB",
        "3.9 MB",
    ]
