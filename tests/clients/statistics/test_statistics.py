"""Statistics: a user moves each count by what is said at most, noise is as promised, and it's paid before it's read."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from clients.ingest import SiteData, read_site
from clients.ledger import open_ledger
from clients.statistics import STATISTICS, counts, release
from clients.statistics.mechanisms import choose, noisy_counts, noisy_top_k, scale_of
from common.errors import ConfigError, PrivacyError
from simulations.cli import main

COUNTS = {
    "items": counts.items, "kinds": counts.kinds, "activity": counts.activity, "ratings": counts.ratings,
    "segments": counts.segments, "vocabulary": counts.vocabulary, "completeness": counts.completeness,
}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop of 30 items and 40 users, one of whom is very busy."""
    path, drawn = tmp_path_factory.mktemp("shop"), np.random.default_rng(0)
    (path / "site.toml").write_text('name = "shop"\n[policy]\nepsilon = 3.0\n', encoding="utf-8")
    colours, things = ("red", "green", "blue"), ("lamp", "vase", "coat", "watch", "shoe")
    rows = [f"i{n},{colours[n % 3]} {things[n % 5]},kind{n % 5}" for n in range(30)]
    (path / "products.csv").write_text("item_id,title,category\n" + "\n".join(rows) + "\n", encoding="utf-8")
    kinds = ("view", "click", "cart", "purchase")
    users = [*drawn.integers(0, 40, 600).tolist(), *[7] * 300]
    events = [
        f"u{user},i{drawn.integers(0, 30)},{kinds[drawn.integers(0, 4)]},2024-01-{1 + n % 28:02d}T{n % 24:02d}:00:00"
        for n, user in enumerate(users)
    ]
    (path / "events.csv").write_text(
        "user_id,item_id,event,at\n" + "\n".join(events) + "\n", encoding="utf-8"
    )
    reviews = [
        f"r{n},u{user},i{n % 30},{1 + n % 5},A {colours[n % 3]} {things[n % 5]} and a {things[(n + 2) % 5]},2024-01-20"
        for n, user in enumerate([*drawn.integers(0, 30, 90).tolist(), *[7] * 60])
    ]  # fmt: skip
    head = "review_id,user_id,item_id,rating,text,created_at\n"
    (path / "reviews.csv").write_text(head + "\n".join(reviews) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def shop(folder: Path) -> SiteData:
    return read_site(folder)


def lacking(data: SiteData, user: str) -> SiteData:
    others = pl.col("user_id") != user
    return replace(data, events=data.events.filter(others), reviews=data.reviews.filter(others))


@pytest.mark.parametrize("name", COUNTS)
def test_one_user_moves_a_count_by_what_is_said_at_most(name: str, shop: SiteData) -> None:
    whole = COUNTS[name](shop)
    assert sum(whole.users) > 0
    users = sorted(set(shop.events["user_id"]) | set(shop.reviews["user_id"]))
    moved = []
    for user in users:
        rest = COUNTS[name](lacking(shop, user))
        assert rest.values == whole.values
        change = np.array(whole.users) - np.array(rest.users)
        assert set(change.tolist()) <= {0, 1}
        moved.append(int(change.sum()))
    assert 0 < max(moved) <= whole.per_user
    assert len(whole.values) >= whole.per_user or max(moved) <= len(whole.values)


def test_noise_is_discrete_laplace_of_the_promised_scale_and_never_twice_the_same() -> None:
    zeros, epsilon, per_user = [0] * 40_000, 0.5, 2
    first, second = (np.array(noisy_counts(zeros, per_user, epsilon)) for _ in range(2))
    share = math.exp(-1 / scale_of(per_user, epsilon))
    variance = 2 * share / (1 - share) ** 2
    for drawn in (first, second):
        assert abs(drawn.var() / variance - 1) < 0.1
        assert abs(drawn.mean()) < 7 * (variance / 40_000) ** 0.5
        exact = (1 - share) / (1 + share)
        assert abs(np.mean(drawn == 0) - exact) < 0.02
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.04
    assert np.mean(np.abs(first) <= 3 * scale_of(per_user, epsilon)) > 0.93


def test_the_likelihood_of_neighbours_differs_by_epsilon_at_most() -> None:
    epsilon, draws = 1.0, 60_000
    with_user = np.array(noisy_counts([1] * draws, 1, epsilon))
    without = np.array(noisy_counts([0] * draws, 1, epsilon))
    for value in range(-2, 4):
        a, b = np.mean(with_user == value), np.mean(without == value)
        assert abs(math.log(a / b)) < epsilon + 0.15


def test_choices_prefer_what_is_high_and_cost_what_they_say() -> None:
    scores = [0, 3, 50, 1]
    chosen = [choose(scores, 0.5) for _ in range(50)]
    assert chosen.count(2) > 45
    assert sorted(noisy_top_k([0, 90, 0, 80, 0, 70], 3, 3.0)) == [1, 3, 5]
    assert len(noisy_top_k([1, 2], 5, 1.0)) == 2
    shares = np.bincount([choose([0, 2], 1.0) for _ in range(4000)], minlength=2) / 4000
    # Permute-and-flip with a gap of 2: the lower one is chosen with half of e⁻².
    assert abs(shares[0] - math.exp(-2) / 2) < 0.02


def test_a_release_is_paid_before_data_are_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spent() -> int:
        with open_ledger(folder, None) as ledger:
            return len(ledger.book().debits)

    before = spent()

    def dead(path: Path) -> None:
        assert spent() == before + 1
        raise RuntimeError("power cut")

    monkeypatch.setattr("clients.statistics.answers.open_house", dead)
    with pytest.raises(RuntimeError):
        release(folder, ["activity"], 0.25)
    assert spent() == before + 1


def test_a_release_that_the_budget_does_not_hold_is_refused(folder: Path) -> None:
    with pytest.raises(PrivacyError):
        release(folder, ["activity"], 30.0)
    with pytest.raises(ConfigError) as fault:
        release(folder, ["activty"], 0.1)
    assert "activity" in fault.value.next_step


def test_the_command_tells_mechanism_cost_and_error(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    names = ",".join(STATISTICS)
    code = main(["statistics", str(folder), "--epsilon", "0.9", "--only", names, "--format", "json"])
    document = json.loads(capfd.readouterr().out)
    assert code == 0
    assert (document["unit"], document["relation"]) == ("user", "add-remove")
    assert [one["name"] for one in document["statistics"]] == list(STATISTICS)
    assert sum(one["epsilon"] for one in document["statistics"]) == pytest.approx(0.9)
    for one in document["statistics"]:
        assert (one["within"] is None) == (one["mechanism"] in ("exponential", "noisy top-k"))
