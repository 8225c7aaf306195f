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


def test_the_headline_names_the_strongest_opponent_and_counts_losses_first(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    assert "Joining paid." in page
    assert "加入有收益。" in page
    assert "ranks 5.0% better than the best that they could deploy alone (NDCG@20 ×1.05 [1.01, 1.09])" in page
    assert "高 5.0%（NDCG@20 ×1.05 [1.01, 1.09]）" in page
    assert (
        "did not pay for 1 of 5 merchants, made no difference that the data can tell for 1, and paid for 3."
        in page
    )
    assert "5 家商家中：1 家没有收益，1 家数据不足以说明有差别，3 家有收益。" in page


def test_no_tile_and_no_sentence_compares_with_a_weaker_opponent(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    first = page[page.index('id="answer"') : page.index('id="merchants"')]
    assert "×1.05" in first
    assert "×1.07" not in first  # the weaker of the two opponents of the headline
    assert "×1.40" not in first  # against the hybrid that needs no training
    weak = ("Best-sellers", "best-sellers", "Ready-made", "trained alone", "The network", "Bought together")
    assert not [name for name in weak if name in first]
    assert not re.search("热销榜|免训练|神经网络|单独训练", first)


def test_each_merchant_is_told_its_own_best_and_its_next_step(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    table = page[page.index('id="merchants"') : page.index('id="where"')]
    assert (
        table.index("Juniper Lane") < table.index("芳草集") < table.index("Alder")
    )  # the largest loss first
    for english, chinese in (
        ("Stay out for now: its own method (The ranker, alone)", "暂不加入：自有方法（排序器，独自拟合）"),
        ("Keep it, and measure again with more customers", "暂且保留"),
        ("Join: the gain is proven on its own customers.", "加入：收益已在本店顾客上得到证实。"),
        ("Linear autoencoder", "线性自编码器"),
        ("new to the league", "新商家"),
    ):
        assert english in table
        assert chinese in table
    assert "62%" in table


def test_a_reason_is_told_in_both_languages_with_the_item_it_is_about(run: Path) -> None:
    page = write_report(run, DrawnPictures()).read_text(encoding="utf-8")
    shops = page[page.index('id="samples"') :].split('<article class="shop"')[1:]
    assert len(shops) == 6
    for shop in shops:
        assert '<span class="t-en" lang="en">bought together 61 %, in demand 30 %</span>' in shop
        assert '<span class="t-zh" lang="zh">常被一起购买 61%，近期热销 30%</span>' in shop
        assert re.search(r"nearest in the history: </span>.*?(90|91|92)\d</span>", shop)


def test_a_method_that_nobody_has_put_into_words_stands_by_its_name(fresh: Path) -> None:
    metrics = json.loads((fresh / "metrics.json").read_text(encoding="utf-8"))
    metrics["quite_new"] = metrics["alone"]
    (fresh / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    assert "quite new" in write_report(fresh, None).read_text(encoding="utf-8")
    assert "| quite new |" in model_card(fresh)


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
    details = {"verdicts": [{"site": "alder", "together": {"gain": "much"}}, 3], "headline": {"over": {"alone": 3}},
               "slices": [{"ratio": None}, 7], "intervals": 7, "ablation": "x",
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


@pytest.mark.parametrize(("ratio", "says", "chinese"), [
    ((0.9, 0.85, 0.95), "Joining did not pay.", "低 10.0%"),
    ((1.02, 0.97, 1.07), "No gain by joining is proven.", "数据不足以说明确有差别"),
])  # fmt: skip
def test_the_headline_does_not_hide_a_loss(
    fresh: Path, ratio: tuple[float, float, float], says: str, chinese: str
) -> None:
    details = json.loads((fresh / "details.json").read_text(encoding="utf-8"))
    details["headline"]["over"]["alone"] = dict(zip(("ratio", "low", "high"), ratio, strict=True)) | {
        "merchants": 5
    }
    details["headline"]["verdict"] = "paid"  # what the file states doesn't count
    (fresh / "details.json").write_text(json.dumps(details), encoding="utf-8")
    page, card = write_report(fresh, None).read_text(encoding="utf-8"), model_card(fresh)
    for text in (page, card):
        assert says in text
        assert chinese in text
        assert "Joining paid." not in text


def test_without_an_opponent_nothing_is_claimed(fresh: Path) -> None:
    (fresh / "details.json").write_text("{}", encoding="utf-8")
    page = write_report(fresh, None).read_text(encoding="utf-8")
    assert "nothing is said of whether joining pays" in page
    assert "因此不对加入是否值得下结论" in page
    assert "nothing is said of whether joining pays" in model_card(fresh).replace("\n", " ")
    assert "Joining paid" not in page


def test_the_card_states_what_protects_and_what_does_not(run: Path) -> None:
    card = model_card(run)
    assert "Differential privacy: off" in card
    assert "`he+masked`: the coordinator saw ciphertexts only" in card
    assert LeagueConfig(name="harbour league").digest() in card
    assert "| The ranker, alone: the same ranker over the same signals" in card


def test_the_card_says_the_same_headline_as_the_report(run: Path) -> None:
    card, head = model_card(run), read_story(run).headline
    assert head is not None
    page = write_report(run, None).read_text(encoding="utf-8")
    for sentence in (head.short.en, head.short.zh, head.sentence.en, head.sentence.zh):
        assert sentence in card
        assert sentence in page
    assert "Over the same league without privacy: ×0.97 [0.94, 1.00]." in card
    assert "×1.07" not in card  # the weaker opponent


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
