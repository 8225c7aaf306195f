"""Card and report state the guarantee mode by mode, in both languages, with what it doesn't cover."""

from __future__ import annotations

from pathlib import Path

import pytest

from common.privacy.guarantee import guarantee_of
from common.reports import model_card, write_report
from common.reports.promise import promise
from common.settings.config import LeagueConfig
from common.settings.load import load_config
from tests.common.reports.sample_run import write_sample_run


def league(mode: str, **privacy: object) -> LeagueConfig:
    settings = {"mode": mode, "epsilon": 3.0, **privacy}
    model = {"tower": mode != "site"}  # a whole site can't be hidden in a network
    return load_config(
        {"model": model, "privacy": settings, "rounds": {"protection": "he+masked", "count": 10}}
    )


@pytest.mark.parametrize(
    ("mode", "english", "chinese"),
    [
        ("user", "with all of the user's records there", "全部记录"),
        ("record", "what one user did at a site in one span of 1 day", "1 天内"),
        ("distributed", "at least 3 sites are honest", "至少 3 个站点诚实"),
        ("site", "all data of one site", "一个站点的全部数据"),
    ],
)
def test_each_mode_says_whom_it_protects_from_whom_and_what_it_costs(
    mode: str, english: str, chinese: str, tmp_path: Path
) -> None:
    config = league(mode)
    found, run = guarantee_of(config), write_sample_run(tmp_path, config=config)
    assert found is not None
    card, page = model_card(run), write_report(run, None).read_text(encoding="utf-8")
    for text in (card, page):
        assert f"(mode “{mode}”): ε = {found.epsilon:.2f}, δ = 1e-05" in text
        assert english in text.replace("&#39;", "'")
        assert chinese in text
        assert "Rényi accounting (Opacus)" in text
        assert "adding or removing one" in text
        assert "Not covered:" in text
        assert "不包括：" in text
        assert "Differential privacy: off" not in text
    assert "fitted at home without noise" in page
    assert "在本店无噪声拟合" in page
    if found.epsilon_pld is not None:
        assert f"{found.epsilon_pld:.2f} by privacy-loss distributions" in card
    if found.epsilon_alone is not None:
        assert f"ε = {found.epsilon_alone:.2f}" in card
    if found.epsilon_user is not None:
        assert f"ε = {found.epsilon_user:.1f} (group privacy)" in card


def test_off_says_that_nothing_is_bounded(tmp_path: Path) -> None:
    page = write_report(write_sample_run(tmp_path), None).read_text(encoding="utf-8")
    assert "Nothing bounds what the model may reveal about one person" in page
    assert "ε" not in promise(LeagueConfig())[0].en


def test_a_seed_is_told_before_everything_else(tmp_path: Path) -> None:
    config = league("user", seeded=True)
    first = promise(config)[0]
    assert "NOTHING is promised" in first.en
    assert "不作任何保证" in first.zh
    assert "come from the operating system" not in " ".join(part.en for part in promise(config))
    assert "NOTHING is promised" in model_card(write_sample_run(tmp_path, config=config))
