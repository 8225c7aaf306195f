"""The round loop where the coordinator can't read the updates: real keys and sums, models of twenty numbers."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import psutil
import pytest
from flwr.app import Context, Error, Message

from clients.training.noop import NoopSite
from common.files import read_json, read_lines, write_json
from common.protocol import wire
from common.protocol.wire import Header, Layout
from common.storage.run_folder import RunFolder
from server.rounds.roll_call import roll_call
from simulations.engines.local import LocalGrid
from tests.faults import leagues
from tests.faults.leagues import SITES, make_keys, make_league, model_of, run_league

NAMES = SITES[:4]
Break = Callable[[str, Header], bool]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_keys(tmp_path_factory.mktemp("keys"), SITES[:5])


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leagues, "SIZE", 20)
    monkeypatch.setattr(sys.modules[roll_call.__module__], "_ROLL_CALL_S", 0.1)


class Watch:
    """Hears all messages; where `breaks` says so, a site's process is gone."""

    def __init__(self, breaks: Break = lambda site, header: False) -> None:
        self.heard: list[tuple[str, str, Header, bool]] = []
        self._breaks = breaks

    def __call__(self, site: str, message: Message, context: Context) -> Message | None:
        header = wire.read_header(message.content, where="test")
        self.heard.append((site, message.metadata.message_type, header, wire.VECTOR in message.content))
        return Message(Error(9, "gone"), reply_to=message) if self._breaks(site, header) else None

    def orders(self) -> list[tuple[str, Header, bool]]:
        """Training orders: site, header, and whether a model came with it."""
        return [(site, header, vector) for site, kind, header, vector in self.heard if kind == wire.TRAIN]

    def steps(self, step: str) -> list[tuple[str, dict[str, Any]]]:
        """Orders of one step of the protocol."""
        return [(site, header.plan) for site, _, header, _ in self.heard if header.plan.get("step") == step]

    def measured(self) -> list[tuple[str, int]]:
        """Who was asked for figures, and of which round."""
        return [(site, header.round) for site, kind, header, _ in self.heard if kind == wire.MEASURE]


def _models(run: RunFolder, round_: int, names: Iterable[str] = NAMES) -> list[bytes]:
    folders = (run.site_out(name) / "private" / "model" for name in names)
    return [(folder / f"round-{round_:04d}.safetensors").read_bytes() for folder in folders]


def test_masked_sums_move_the_model_as_sums_in_clear_do(keys: Path, tmp_path: Path) -> None:
    settings = {"count": 2, "fraction": 0.75, "optimiser": "average", "server_learning_rate": 0.5}
    watch = Watch()
    run = make_league(tmp_path / "masked", keys, 4, protection="masked", **settings)
    run_league(run, watch)
    plain = make_league(tmp_path / "plain", keys, 4, protection="plain", **settings)
    run_league(plain)
    assert model_of(run.release) == model_of(plain.release)
    lines, clear = read_lines(run.rounds_file), read_lines(plain.rounds_file)
    for line, other in zip(lines, clear, strict=True):
        for name in ("cohort", "weights", "sites", "metrics", "quarantined", "undone"):
            assert line[name] == other[name]
        assert line["bytes"]["down"] == 3 * 4 * 20
    orders = watch.orders()
    assert len(orders) == 6
    for number, (site, header, vector) in enumerate(orders):
        attempt = json.loads(str(header.plan["attempt"]))
        assert (header.protection, header.round, vector) == ("masked", 1 + number // 3, True)
        assert attempt["round"] == header.round
        assert site in attempt["weights"]
        assert header.plan["refusals"] == "[]"
    assert watch.measured() == [(name, 2) for name in NAMES], (
        "there is no guard, only the last model's figures"
    )


def _limited_processes() -> set[int]:
    """Limited processes that this one has started; other tests may have left some to the garbage collector."""
    children = psutil.Process().children()
    return {child.pid for child in children if "limited_process" in " ".join(child.cmdline())}


def test_encrypted_orders_bring_no_model_for_the_sites_hold_it(keys: Path, tmp_path: Path) -> None:
    summing: list[int] = []
    before = _limited_processes()

    def look(site: str, header: Header) -> bool:
        if header.plan.get("step") == "wrap":
            summing.append(len(_limited_processes() - before))
        return False

    watch = Watch(look)
    run = make_league(tmp_path, keys, 4, protection="he", count=1, worst_fall=0.5)
    run_league(run, watch)
    assert summing == [1], "what sums is up before a round's time is spent on its start"
    assert [(site, vector) for site, _, vector in watch.orders()] == [(name, False) for name in NAMES]
    [line] = read_lines(run.rounds_file)
    sent = len((run.state / "sum-0001.bin").read_bytes()) * 4
    assert line["bytes"]["down"] == sent > 0
    assert (line["groups_refused"], line["named"], line["undone"]) == (0, [], "")
    assert len(set(_models(run, 1))) == 1
    # The guard lets the round pass: its sums are handed out once, and nobody is behind at the end.
    assert [(site, plan["undo"]) for site, plan in watch.steps("apply")] == [(name, False) for name in NAMES]
    assert watch.measured() == [(name, 1) for name in [*NAMES, *NAMES]], "by the guard, and as the last model"


def test_a_round_that_serves_the_sites_much_worse_is_taken_back_where_they_hold_the_model(
    keys: Path, tmp_path: Path
) -> None:
    """One site doesn't hear of it, and gets it told before the next round."""

    def deaf(site: str, header: Header) -> bool:
        return site == "s1" and header.plan.get("undo") is True and len(watch.steps("apply")) <= 8

    watch = Watch(deaf)
    settings = {"count": 2, "worst_fall": 0.5, "server_learning_rate": 40.0, "quorum": 0.75}
    run = make_league(tmp_path, keys, 4, protection="he", **settings)
    run_league(run, watch)
    lines = read_lines(run.rounds_file)
    assert ["fell by" in line["undone"] for line in lines] == [True, True]
    assert [name for name, round_ in watch.measured() if round_ == 1] == NAMES
    for round_ in (1, 2):
        assert read_json(run.state / f"sum-{round_:04d}.json")["undone"] == lines[round_ - 1]["undone"]
    told = [(site, plan["round"], plan["undo"]) for site, plan in watch.steps("apply")]
    assert told == [
        *((name, 1, False) for name in NAMES),
        *((name, 1, True) for name in NAMES),
        ("s1", 1, True),  # it's behind, and no other site is
        *((name, 2, False) for name in NAMES),
        *((name, 2, True) for name in NAMES),
    ]
    assert len(set(_models(run, 2))) == 1


def test_a_site_that_missed_the_last_sum_gets_it_before_the_run_ends(keys: Path, tmp_path: Path) -> None:
    def deaf(site: str, header: Header) -> bool:
        return site == "s2" and header.plan.get("step") == "apply" and len(watch.steps("apply")) <= 4

    watch = Watch(deaf)
    run = make_league(tmp_path, keys, 4, protection="he", count=1)
    run_league(run, watch)
    [line] = read_lines(run.rounds_file)
    assert [entry["site"] for entry in line["quarantined"]] == ["s2"]
    assert [site for site, _ in watch.steps("apply")] == [*NAMES, "s2"]
    assert len(set(_models(run, 1))) == 1


def _late(*names: str, after: int) -> type[LocalGrid]:
    """A grid on which some sites can be seen once so many rounds lie on the disk."""

    class Late(LocalGrid):
        def get_node_ids(self) -> Iterable[int]:
            found = list(super().get_node_ids())
            run = RunFolder(Path(str(self._run_config["run-dir"])))
            if len(read_lines(run.rounds_file)) >= after:
                return found
            return [node for place, node in enumerate(found) if SITES[place] not in names]

    return Late


def test_who_comes_late_is_let_in_with_a_key_of_its_own_time(keys: Path, tmp_path: Path) -> None:
    """With it comes a site that is held out, which gets neither keys nor sums."""
    watch = Watch()
    run = make_league(tmp_path, keys, 5, protection="he", count=3)
    entries = [entry | {"held_out": entry["name"] == "s4"} for entry in read_json(run.league_file)]
    write_json(run.league_file, entries)
    run_league(run, watch, _late("s3", "s4", after=2))
    lines = read_lines(run.rounds_file)
    assert [sorted(line["weights"]) for line in lines] == [NAMES[:3], NAMES[:3], NAMES]
    epochs = read_json(run.state / "keys.json")["epochs"]
    assert [(each["first"], each["members"]) for each in epochs] == [(1, NAMES[:3]), (3, NAMES)]
    assert len(set(_models(run, 3))) == 1
    # Of the round before, only the newcomer is asked to catch up.
    assert [site for site, plan in watch.steps("apply") if plan["round"] == 2] == [*NAMES[:3], "s3"]
    assert "s4" not in {site for site, _ in watch.steps("apply") + watch.steps("offer")}


def test_a_newcomer_without_keys_stays_out(keys: Path, tmp_path: Path) -> None:
    watch = Watch(lambda site, header: site == "s3" and header.plan.get("step") == "offer")
    run = make_league(tmp_path, keys, 4, protection="masked", count=2)
    run_league(run, watch, _late("s3", after=1))
    assert [sorted(line["weights"]) for line in read_lines(run.rounds_file)] == [NAMES[:3]] * 2
    assert {site for site, _, _ in watch.orders()} == set(NAMES[:3])


def test_a_masked_sum_that_is_refused_undoes_its_round_without_asking_for_figures(
    keys: Path, tmp_path: Path
) -> None:
    run = make_league(tmp_path, keys, 4, protection="masked", count=1, worst_fall=0.5)
    watch, spoil = Watch(), leagues.noise_from("s1", run)

    def fault(site: str, message: Message, context: Context) -> Message | None:
        return watch(site, message, context) or spoil(site, message, context)

    run_league(run, fault)
    [line] = read_lines(run.rounds_file)
    assert line["undone"].startswith("the sum is refused")
    assert watch.measured() == [(name, 1) for name in NAMES], "of the last model alone"
    first = Layout.of({"first": (10,), "second": (10,)}).unflatten(NoopSite("s0", 0, 20).initial())
    assert model_of(run.release) == {name: tensor.tobytes() for name, tensor in first.items()}
